"""What a sweep talks to: a Ray cluster, an MLflow server, a database."""

from __future__ import annotations

import importlib.util
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sweeper.adapters.ray.address import client_address, host_and_port
from sweeper.core.errors import InputError
from sweeper.doctor.finding import Finding, fail, ok

TIMEOUT_S: Final = 5.0
_RAY_PORT: Final = 6379
_DATABASES: Final = {
    # Port and the module of the driver that SQLAlchemy takes where the URL names none.
    "postgresql": (5432, "psycopg2", "psycopg2-binary"),
    "mysql": (3306, "MySQLdb", "mysqlclient"),
}
_DRIVERS: Final = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "pymysql": "pymysql"}


def ray_cluster(address: str | None) -> Finding:
    """Judge whether a cluster answers; without an address a sweep starts its own."""
    if address is None:
        return ok("ray cluster", "none named: a sweep starts its own")
    try:
        client = client_address(address)
    except InputError as error:
        return fail("ray cluster", f"{error.got}: {error.rule}", error.mend)
    if client is not None:
        return _client_at(client)
    if address == "auto":
        started = Path("/tmp/ray/ray_current_cluster")
        if started.is_file():
            return _ray_at(started.read_text().strip(), "auto")
        return fail("ray cluster", "none runs on this machine", "ray start --head (or leave --address out)")
    return _ray_at(address, address)


def _client_at(address: str) -> Finding:
    host, number = host_and_port(address)
    error = _refusal(host, number)
    if error is not None:
        mend = f"on {host}: ray start --head --ray-client-server-port={number}, with ray[client] installed"
        return fail("ray cluster", f"{address} does not answer: {error}", mend)
    if importlib.util.find_spec("grpc") is None:
        return fail(
            "ray cluster", f"{address} answers, but Ray Client is not installed here", "pip install 'ray[client]'"
        )
    if not os.environ.get("SWEEPER_HOME"):
        mend = "SWEEPER_HOME=/shared/sweeps: a folder that all its nodes see"
        return fail("ray cluster", f"{address} answers, but no folder for sweeps there is named", mend)
    return ok("ray cluster", f"{address} answers")


def _ray_at(address: str, name: str) -> Finding:
    host, _, number = address.rpartition(":") if ":" in address else (address, "", str(_RAY_PORT))
    if not number.isdigit():
        return fail("ray cluster", f"{name} names no port", f"give it as HOST:{_RAY_PORT}")
    error = _refusal(host, int(number))
    if error is None:
        return ok("ray cluster", f"{name} answers")
    mend = f"on {host}: ray start --head --port={number} (and open the port)"
    return fail("ray cluster", f"{name} does not answer: {error}", mend)


def mlflow(uri: str | None) -> Finding:
    """Judge whether the tracking server answers, or the file beside which it would be made."""
    if uri is None:
        return ok("mlflow", "a file in the sweep's folder")
    if not uri.startswith(("http://", "https://")):
        return _file("mlflow", uri, "tracking.mlflow")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_S) as answer:
            return ok("mlflow", f"{uri} answers ({answer.status})")
    except urllib.error.HTTPError as error:
        if error.code == 403:
            mend = f"mlflow server --allowed-hosts {urlsplit(uri).netloc} ..."
            return fail("mlflow", f"{uri} refuses this host's name (403)", mend)
        return fail("mlflow", f"{uri} answers with code {error.code}", "check tracking.mlflow and the server's log")
    except (OSError, ValueError) as error:
        host = urlsplit(uri)
        mend = f"mlflow server --host {host.hostname} --port {host.port or 5000} (records wait on disk meanwhile)"
        return fail("mlflow", f"{uri} does not answer: {getattr(error, 'reason', error)}", mend)


def database(url: str | None) -> Finding:
    """Judge whether the study's storage can be reached: its driver is installed and its server listens."""
    if url is None:
        return ok("database", "a file in the sweep's folder")
    dialect, _, driver = url.partition("://")[0].partition("+")
    if dialect not in _DATABASES:
        return _file("database", url, "tracking.study")
    number, module, package = _DATABASES[dialect]
    if driver:
        module, package = driver, _DRIVERS.get(driver, driver)
    if importlib.util.find_spec(module) is None:
        return fail(
            "database", f"{dialect} needs the driver {module}, which is not installed", f"pip install {package}"
        )
    try:
        parts = urlsplit(url)
        host, at = parts.hostname or "localhost", parts.port or number
    except ValueError:
        return fail(
            "database", "tracking.study is not a URL", f"write it as {dialect}://USER:PASSWORD@HOST:{number}/NAME"
        )
    error = _refusal(host, at)
    if error is None:
        return ok("database", f"{dialect} at {host}:{at} listens")
    return fail("database", f"{dialect} at {host}:{at} does not answer: {error}", f"pg_isready -h {host} -p {at}")


def _file(about: str, uri: str, key: str) -> Finding:
    path = Path(uri.split(":///", 1)[-1] if ":///" in uri else uri.removeprefix("file:")).expanduser()
    if path.parent.is_dir():
        return ok(about, f"{path}")
    return fail(about, f"{key}: folder {path.parent} does not exist", f"mkdir -p {path.parent}")


def _refusal(host: str, number: int) -> str | None:
    """Return why nobody can be reached there, or None where somebody listens."""
    try:
        with socket.create_connection((host, number), timeout=TIMEOUT_S):
            return None
    except (OSError, OverflowError) as error:
        return str(error)
