"""Serve MLflow's pages on the store of one sweep, for this machine only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from sweeper.adapters.mlflow.store import server_environment, sweep_store
from sweeper.adapters.mlflow.translate import PREFIX
from sweeper.adapters.mlflow.view import chart_path
from sweeper.core.errors import InputError, SweeperError
from sweeper.spool import Spool, recall_sweep_id

READY_S: Final = 120.0
"""Longest wait for the server: it starts in 7 s on two idle cores, in 30 s on busy ones."""
STOP_S: Final = 10.0


def serve(folder: Path, host: str = "127.0.0.1", port: int = 5000, *, uri: str | None = None) -> int:
    """Serve the sweep in ``folder`` until Ctrl-C; return the exit code.

    Prints the address of the trials' charts once it answers. ``uri`` is the tracking URI that the search space names;
    where that is a server already, only its address is printed.

    Raises:
        InputError: the sweep has no record yet, or the port is taken.
        SweeperError: the server did not start.
    """
    store = sweep_store(folder, uri)
    if store.is_server:
        print(f"the record is kept by a server: {store.shown_uri}")
        return 0
    if store.sqlite_file is not None and not store.sqlite_file.exists():
        raise InputError("the sweep has no record yet", where=str(store.sqlite_file), mend="start it with sweeper run")
    _refuse_taken_port(host, port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri, "--workers", "1"]
    command += ["--host", host, "--port", str(port), "--uvicorn-opts", "--log-level warning"]
    if store.artifacts:
        command += ["--default-artifact-root", store.artifacts]
    with tempfile.TemporaryFile("w+") as log, _running(command, log) as server:
        address = f"http://{'localhost' if host == '127.0.0.1' else host}:{port}"
        _wait_until_ready(server, address, log)
        print(f"MLflow: {address}/{_charts(address, folder)}\nCtrl-C ends it", flush=True)
        return server.wait()


@contextmanager
def _running(command: list[str], log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server in a session of its own, so that its end is ours to give, and end all of it on leaving."""
    server = subprocess.Popen(
        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=server_environment(), start_new_session=True
    )
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield server
    except KeyboardInterrupt:
        print()
    finally:
        signal.signal(signal.SIGTERM, previous)
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(STOP_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            where = f"{host}:{port}"
            raise InputError(f"cannot listen: {error.strerror}", where=where, mend="give another --port") from error


def _wait_until_ready(server: subprocess.Popen[bytes], address: str, log: IO[str]) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    log.seek(0)
    tail = "\n".join(log.read().splitlines()[-20:])
    raise SweeperError(f"MLflow's server did not start (exit code {server.poll()}):\n{tail}")


def _charts(address: str, folder: Path) -> str:
    """Return the path of the sweep's charts; empty where the store does not hold the sweep yet."""
    tag = f"tags.`{PREFIX}sweep_id` = '{recall_sweep_id(Spool(folder))}'"
    body = json.dumps({"filter": tag, "max_results": 1}).encode()
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    experiments = found.get("experiments", [])
    return chart_path(experiments[0]["experiment_id"]) if experiments else ""
