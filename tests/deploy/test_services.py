"""The services of compose.yaml as processes, started by the scripts that it names, and a sweep recorded by them.

``TRACKING_IMAGE=sweeper:tracking`` runs MLflow's server out of that image (buildah, no daemon) as compose does.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from deploy_files import DOCKER, said
from postgres_server import PostgresServer
from record_cases import play, sweep_info, trial_info
from test_sweep_scripted import SPACE, Sweeps

from sweeper.adapters.mlflow.store import Store, connect
from sweeper.adapters.mlflow.tracker import MlflowTracker, TrackerBehind
from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_storage import storage_for
from sweeper.core.errors import InputError
from sweeper.core.objective import Objective

pytestmark = [
    pytest.mark.long,
    # SQLAlchemy's pools leave their connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:<psycopg.Connection:ResourceWarning"),
]

OPTIONS = ("DATABASE_PORT", "PORT", "ARTIFACTS", "WORKERS")


@dataclass(frozen=True, kw_only=True)
class Services:
    postgres: PostgresServer
    secrets: dict[str, str]
    mlflow: str
    log: Path


@pytest.fixture(scope="module")
def services(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    pytest.importorskip("flask_wtf", reason="needs pip install 'sweeper[server]'")
    home = tmp_path_factory.mktemp("services")
    folder = home / "secrets"
    assert said([DOCKER / "make-secrets", folder]).returncode == 0
    secrets = {path.name: path.read_text() for path in folder.iterdir()}
    made = said(
        [DOCKER / "postgres" / "init.sh"],
        PATH=f"{postgres.programs}{os.pathsep}{os.environ['PATH']}",
        **postgres.environment,
        **{"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "POSTGRES_USER": "sweeper"},
        SECRETS=str(folder),
    )
    assert made.returncode == 0, made.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = os.environ | {
        "DATABASE_PORT": str(postgres.port),
        "PORT": str(port),
        "ARTIFACTS": str(home / "artifacts"),
        "WORKERS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "SECRET_PGPASSWORD": str(folder / "mlflow_password"),
        "SECRET_MLFLOW_AUTH_ADMIN_PASSWORD": str(folder / "mlflow_admin_password"),
        "SECRET_MLFLOW_FLASK_SERVER_SECRET_KEY": str(folder / "mlflow_session_key"),
    }
    log = home / "mlflow.log"
    with log.open("w") as out, _command(home, environment) as command:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=home, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            _await(server, f"{address}/health", log)
            yield Services(postgres=postgres, secrets=secrets, mlflow=address, log=log)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
    gc.collect()


@contextmanager
def _command(home: Path, environment: Mapping[str, str]) -> Iterator[list[str | Path]]:
    """Yield what starts MLflow's server, and take away what it was started from."""
    image = os.environ.get("TRACKING_IMAGE")
    if not image:
        yield [DOCKER / "with-secrets", sys.executable, DOCKER / "serve_mlflow.py"]
        return
    made = subprocess.run(["buildah", "from", image], capture_output=True, text=True, check=True).stdout.strip()
    # The image's user is not the one who runs this.
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (home / "artifacts").mkdir()
    (home / "artifacts").chmod(0o777)
    told = [f"--env={name}={environment[name]}" for name in (*OPTIONS, *(n for n in environment if "SECRET_" in n))]
    start = ["tini", "--", "with-secrets", "python3", "/usr/local/bin/serve-mlflow"]
    try:
        yield ["buildah", "run", "--user=1000:1000", f"--volume={home}:{home}", *told, made, "--", *start]
    finally:
        subprocess.run(["buildah", "rm", made], stdout=subprocess.DEVNULL, check=True)


def _await(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + 180
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-3000:])


def _asked(address: str, user: str, password: str, host: str = "localhost") -> int:
    """Return the status with which MLflow answers a request for its experiments."""
    token = b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1}',
        headers={"Content-Type": "application/json", "Authorization": f"Basic {token}", "Host": host},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_mlflow_answers_its_user_and_refuses_a_wrong_password_and_a_foreign_host(services: Services) -> None:
    password = services.secrets["mlflow_admin_password"]
    assert _asked(services.mlflow, "admin", password) == 200
    assert _asked(services.mlflow, "admin", "wrong") == 401
    assert _asked(services.mlflow, "nobody", password) == 401
    assert _asked(services.mlflow, "admin", password, host="attacker.example") == 403


def test_the_roles_of_the_database_cannot_read_each_other(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def url(role: str, database: str) -> str:
        return f"postgresql+psycopg://{role}@127.0.0.1:{services.postgres.port}/{database}"

    monkeypatch.setenv("PGPASSWORD", services.secrets["study_password"])
    StudyLedger.open(storage_for(url("study", "study")), "mine", Objective())
    for role, database in (("study", "mlflow"), ("study", "mlflow_auth"), ("mlflow", "study")):
        with pytest.raises(InputError, match=r"permission denied|authentication failed"):
            storage_for(url(role, database))


def test_a_wrong_password_leaves_the_record_in_the_spool_and_is_not_told(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-right-one")
    told: list[str] = []
    tracker = MlflowTracker(
        tmp_path, uri=services.mlflow, flush_timeout_s=20, flush_patience_s=1, on_trouble=told.append
    )
    play(tracker, sweep_info(tmp_path), [trial_info()])
    with pytest.raises(TrackerBehind):
        tracker.flush()
    tracker.close()
    assert "401" in told[0]
    assert "not-the-right-one" not in "".join(told)


def test_a_sweep_is_recorded_by_the_services_and_no_secret_is_left_behind(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", services.secrets["study_password"])
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", services.secrets["mlflow_admin_password"])
    sweeps = Sweeps(tmp_path)
    study = f"postgresql+psycopg://study@127.0.0.1:{services.postgres.port}/study"
    tracking = json.dumps({"mlflow": services.mlflow, "study": study})
    (tmp_path / "space.yaml").write_text(f"{SPACE}tracking: {tracking}\n")
    small = ["--set", "grid={batch_size: [64], learning_rate: [1e-4]}", "--plain"]
    driver = sweeps.start("run", "space.yaml", "--sweep", "kept", *small)
    out, err = driver.communicate(timeout=250)
    assert driver.returncode == 0, err

    client = connect(Store(uri=services.mlflow))
    experiments = [one.experiment_id for one in client.search_experiments() if one.name != "Default"]
    runs = {str(run.info.run_name): run for run in client.search_runs(experiments)}
    assert set(runs) == {"b64-lr1e-4", "summary"}
    assert client.get_metric_history(runs["b64-lr1e-4"].info.run_id, "train/loss")
    assert client.list_artifacts(runs["summary"].info.run_id), "artifacts go through the server"
    left = "".join([out, err, services.log.read_text()])
    left += "".join(path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "b64-lr1e-4" in left
    assert not [name for name, secret in services.secrets.items() if secret in left]
