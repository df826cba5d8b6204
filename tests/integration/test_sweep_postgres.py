"""A sweep whose study and MLflow store lie in PostgreSQL, with a password that must show up nowhere."""

from __future__ import annotations

import gc
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from record_cases import play, sweep_info, trial_info
from test_sweep_scripted import SPACE, Sweeps

from sweeper.adapters.mlflow.store import connect
from sweeper.adapters.mlflow.tracker import MlflowTracker, TrackerBehind
from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_storage import refuse_taken_study, storage_for
from sweeper.cli import main
from sweeper.core.errors import InputError
from sweeper.core.objective import Objective

pytestmark = [
    pytest.mark.slow,
    # SQLAlchemy's pools leave their connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:<psycopg.Connection:ResourceWarning"),
]


@pytest.fixture
def known(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    yield postgres
    gc.collect()


@pytest.mark.parametrize("kills", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_sweep_on_postgresql_ends_also_after_kill_9_and_tells_no_password(
    known: PostgresServer,
    tmp_path: Path,
    kills: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweeps, name = Sweeps(tmp_path), f"killed{kills}"
    databases = {kind: known.new_database(f"{name}_{kind}") for kind in ("study", "mlflow")}
    (tmp_path / "space.yaml").write_text(f"{SPACE}tracking: {json.dumps(databases)}\n")
    run = ["run", "space.yaml", "--sweep", name, "--set", "grid.batch_size=[16]", "--set", "pruner=[]", "--plain"]
    told = "".join(_until_killed(sweeps, name, run) for _ in range(kills))

    code, out, err = sweeps.run(*(["resume", name, "--plain"] if kills else run))
    assert code == 0, err
    cells = sweeps.cells(name)
    assert len(cells) == 4
    assert all(cell.state.is_final for cell in cells.values())
    assert cells["b16-lr1e-5"].attempts == 1 + kills
    assert _steps(databases["mlflow"]) == {name: round(cell.samples_seen / 128) for name, cell in cells.items()}

    monkeypatch.chdir(tmp_path)
    assert main(run) == 2
    told += out + err + "".join(capsys.readouterr())
    told += "".join(_dumped(known, f"{name}_{kind}") for kind in databases)
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        told += file.read_bytes().decode(errors="replace")
    assert "b16-lr1e-5" in told
    assert known.password not in told


def _until_killed(sweeps: Sweeps, name: str, run: list[str]) -> str:
    """Kill the driver in the middle of a trial; return what it printed."""
    driver = sweeps.start(*run, faults={"b16-lr1e-5": "slow"})
    told = _until_started(driver, "b16-lr1e-5")
    while not sweeps.cells(name)["b16-lr1e-5"].samples_seen:
        assert driver.poll() is None
    driver.kill()
    return told + "".join(driver.communicate())


def _until_started(driver: subprocess.Popen[str], trial: str) -> str:
    """Read what the driver prints until a trial has started; the rest stays to be read."""
    assert driver.stdout is not None
    told = ""
    while f"start  {trial}" not in told:
        line = driver.stdout.readline()
        assert line, told
        told += line
    return told


def _steps(uri: str) -> dict[str, int]:
    """Return how many steps each trial's run holds; every one of them once."""
    from sweeper.adapters.mlflow.store import Store

    client = connect(Store(uri=uri))
    experiments = [one.experiment_id for one in client.search_experiments() if one.name != "Default"]
    runs = {str(run.info.run_name): run.info.run_id for run in client.search_runs(experiments)}
    del runs["summary"]
    histories = {name: [m.step for m in client.get_metric_history(run, "train/loss")] for name, run in runs.items()}
    assert all(len(steps) == len(set(steps)) for steps in histories.values())
    return {name: len(steps) for name, steps in histories.items()}


def _dumped(server: PostgresServer, database: str) -> str:
    command = [server.programs / "pg_dump", "-h", "127.0.0.1", "-p", str(server.port), "-U", "sweeper", database]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_new_sweep_does_not_go_on_in_another_ones_study(known: PostgresServer) -> None:
    url = known.new_database("taken")
    StudyLedger.open(storage_for(url), "mine", Objective())
    refuse_taken_study(url, "yours")
    with pytest.raises(InputError, match="holds a sweep of this name, got 'mine'"):
        refuse_taken_study(url, "mine")


def test_a_wrong_password_is_named_without_it_and_the_spool_keeps_the_record(
    known: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = known.new_database("refused")
    monkeypatch.setenv("PGPASSWORD", "not-the-right-one")
    with pytest.raises(InputError, match="password authentication failed") as refused:
        storage_for(url)
    assert "not-the-right-one" not in str(refused.value)

    troubles: list[str] = []
    tracker = MlflowTracker(tmp_path, uri=url, flush_timeout_s=20, flush_patience_s=1, on_trouble=troubles.append)
    play(tracker, sweep_info(tmp_path), [trial_info()])
    with pytest.raises(TrackerBehind):
        tracker.flush()
    tracker.close()
    assert "password authentication failed" in troubles[0]
    assert "not-the-right-one" not in "".join(troubles)
