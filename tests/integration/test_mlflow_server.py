"""The tracker and ``serve`` with a real MLflow server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from record_cases import grid, measurements, mlflow_tables, play, play_trial, sweep_info, wall_time_ms

from sweeper.adapters.mlflow.store import connect
from sweeper.adapters.mlflow.tracker import MlflowTracker, TrackerBehind
from sweeper.adapters.mlflow.translate import points
from sweeper.adapters.mlflow.ui import serve
from sweeper.core.errors import InputError
from sweeper.core.record import SweepInfo, TrialInfo

REPOSITORY = Path(__file__).parents[2]
SERVE = "import sys; from pathlib import Path; from sweeper.adapters.mlflow.ui import serve; "
SERVE += "sys.exit(serve(Path(sys.argv[1]), port=int(sys.argv[2])))"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Served:
    """``serve`` in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"http://localhost:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(folder), str(port)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()

    def kill(self) -> None:
        """End the server and all its children without a word, as a lost machine does."""
        for pid in (self.process.pid, *self.children()):
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        return self.process.returncode

    def children(self) -> set[int]:
        text = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in (line.split() for line in text.splitlines())}
        found = {self.process.pid}
        for _ in range(4):
            found |= {pid for pid, parent in parents.items() if parent in found}
        return found - {self.process.pid}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").write_bytes(mlflow_tables())
    return tmp_path


@pytest.fixture
def serving(folder: Path) -> Iterator[Callable[[int], _Served]]:
    started: list[_Served] = []

    def start(port: int) -> _Served:
        started.append(_Served(folder, port))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.interrupt()


@pytest.mark.slow
def test_a_server_that_comes_late_and_is_killed_ends_up_with_every_point_once(
    folder: Path, serving: Callable[[int], _Served], capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial is in the store already and is sent again, two wait in the spool, one comes while the server is dead."""
    port, sweep, trials = _free_port(), sweep_info(folder), grid()
    local = MlflowTracker(folder, flush_timeout_s=60)
    local.open_sweep(sweep)
    play_trial(local, sweep, trials[0])
    local.flush()
    local.close()

    troubles: list[str] = []
    uri = f"http://localhost:{port}"
    remote = MlflowTracker(folder, uri=uri, flush_timeout_s=60, flush_patience_s=5, on_trouble=troubles.append)
    play(remote, sweep, trials[:3], explode=frozenset({trials[1].name}))
    server = serving(port)
    assert server.first_line.startswith(f"MLflow: {server.address}/#/experiments/1/runs?")
    remote.flush()
    server.kill()
    play(remote, sweep, trials, explode=frozenset({trials[1].name}))
    with pytest.raises(TrackerBehind):
        remote.flush()
    server = serving(port)
    remote.flush()
    remote.close()
    assert ["again" in trouble for trouble in troubles] == [False, True, False, True]
    assert "does not take the record" in troubles[2]
    assert capsys.readouterr().out == "", "MLflow's client prints into the terminal's table"

    client = connect(remote.store)
    runs = {run.info.run_name: run for run in client.search_runs(["1"])}
    assert len(client.search_runs(["1"])) == 1 + len(trials)
    for trial, explode_at in ((trials[0], None), (trials[1], 128), (trials[3], None)):
        history = client.get_metric_history(runs[trial.name].info.run_id, "train/loss")
        stored = Counter((m.step, m.timestamp, repr(m.value)) for m in history)
        assert stored == _losses(trial, sweep, explode_at)
    assert runs[trials[1].name].info.status == "KILLED"
    artifacts = {file.path for file in client.list_artifacts(runs["summary"].info.run_id)}
    assert artifacts == {"signals.csv", "space.yaml", "summary.json", "trials.csv"}

    children = server.children()
    assert children
    sockets = [one for pid in children for one in psutil.Process(pid).net_connections(kind="inet")]
    assert {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert server.interrupt() == 0
    assert not {pid for pid in children if os.path.exists(f"/proc/{pid}")}


def _losses(trial: TrialInfo, sweep: SweepInfo, explode_at: int | None) -> Counter[tuple[int, int, str]]:
    expected: Counter[tuple[int, int, str]] = Counter()
    for measurement in measurements(trial, sweep.milestones, explode_at=explode_at):
        found = points(measurement, wall_time_ms(measurement))
        expected.update((p.step, p.timestamp_ms, repr(p.value)) for p in found if p.key == "train/loss")
        if explode_at and measurement.samples_seen >= explode_at:
            break
    return expected


def test_serve_refuses_a_folder_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record yet"):
        serve(tmp_path)


def test_serve_refuses_a_port_that_is_taken(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="give another --port"):
            serve(folder, port=taken.getsockname()[1])


def test_serve_only_names_a_server_that_is_there_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(tmp_path, uri="https://user:secret@mlflow.example") == 0
    assert capsys.readouterr().out == "the record is kept by a server: https://user:***@mlflow.example\n"
