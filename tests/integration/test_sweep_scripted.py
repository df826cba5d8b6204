"""The main job on a real Ray, a real study and a real MLflow store, with scripted gangs: faults and interruptions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from page_cases import read_page

from sweeper.adapters.study_cells import CellRecord
from sweeper.adapters.yaml_space import load_space
from sweeper.cli import main
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.search import RULE
from sweeper.sweep import open_ledger

SCRIPTED = Path(__file__).parents[1] / "scripted"
SPACE = """\
sweep: scripted
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}}
train: {engine: fsdp, ranks: 2}
eval: {milestones: 8}
grid:
  batch_size: [16, 64]
  learning_rate: [1e-5, 1e-4, 1e-3, 1]
"""
pytestmark = pytest.mark.slow


class Sweeps:
    """Runs the command line in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []
        (folder / "space.yaml").write_text(SPACE)

    def start(self, *arguments: str, faults: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PYTHONPATH": f"{SCRIPTED}{os.pathsep}{SCRIPTED.parents[1]}",
            "SCRIPTED_FAULTS": json.dumps(faults or {}),
            "SCRIPTED_MARKS": str(self.folder / "struck"),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeper.cli", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A parent that ignores SIGINT (a shell's background job) would hand that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """Leave no driver behind, whatever a test's outcome."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def run(self, *arguments: str, faults: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        process = self.start(*arguments, faults=faults)
        out, err = process.communicate(timeout=500)
        return process.returncode, out, err

    def cells(self, name: str) -> dict[str, CellRecord]:
        folder = SweepFolder(self.folder / "sweeps" / name)
        space, _ = load_space(folder.space)
        return {cell.name: cell for cell in open_ledger(folder, space).cells()}

    def wait_for(self, name: str, condition: Callable[[dict[str, CellRecord]], bool]) -> None:
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            study = SweepFolder(self.folder / "sweeps" / name).study
            if study.exists() and condition(self.cells(name)):
                return
            time.sleep(0.2)
        raise AssertionError("the sweep did not get that far")


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Sweeps]:
    found = Sweeps(tmp_path)
    yield found
    found.end()


def logged_points(folder: Path) -> dict[str, list[int]]:
    """Return the steps of the train loss of every trial run in the sweep's MLflow store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    names = [str(run.info.run_name) for run in runs]
    assert len(names) == len(set(names)), "a trial has two runs"
    return {
        str(run.info.run_name): [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")]
        for run in runs
    }


def check_report(sweeps: Sweeps) -> None:
    """The page of the sweep names every cell, and the reason of every one that did not run to its end."""
    code, out, err = sweeps.run("report", "--out", "told")
    assert (code, out.strip()) == (0, "told/report.html"), err
    page = read_page((sweeps.folder / "told" / "report.html").read_text())
    assert "This sweep has ended" in page.words
    assert "scripted failure" in page.words
    for cell in sweeps.cells("scripted-1").values():
        assert cell.name in page.words
        if cell.verdict is not None and cell.verdict.prunes:
            assert cell.verdict.reason in page.words
    assert {path.name for path in (sweeps.folder / "told").iterdir()} >= {"report.html", "curves.png", "heatmap-1.png"}


@pytest.mark.timeout(600)
def test_crashes_hangs_and_torn_checkpoints_are_retried_an_error_is_kept_and_the_rest_goes_on(sweeps: Sweeps) -> None:
    """Each strikes on the way to the third milestone; the torn checkpoint is that of the second."""
    faults = {"b16-lr1e-4": "crash", "b16-lr1e-3": "torn", "b64-lr1e-5": "raise", "b64-lr1e-3": "hang"}
    settings = ["pruner=[]", "resources.hang_limit_s=20", "resources.checkpoint_every=1"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    code, out, err = sweeps.run("run", "space.yaml", *arguments, "--plain", faults=faults)
    assert code == 0, err
    assert "Traceback" not in err
    cells = sweeps.cells("scripted-1")
    failed = cells.pop("b64-lr1e-5")
    assert (failed.state, failed.cause, failed.attempts) == (TrialState.FAIL, FailCause.USER_CODE, 1)
    assert "in _misbehave" in failed.detail
    assert failed.detail.endswith("user_code: ValueError: scripted failure")
    assert "b64-lr1e-3 is tried again: hang: no rank came to its next milestone within" in out
    assert "b16-lr1e-3: a checkpoint could not be read and was set aside" in out
    states = {name: cell.state for name, cell in cells.items()}
    exploding = {"b16-lr1", "b64-lr1"}
    assert {name for name, state in states.items() if state is TrialState.PRUNED} == exploding
    assert {name for name, state in states.items() if state is TrialState.COMPLETE} == set(states) - exploding
    # Each goes on from its newest whole checkpoint.
    began_at = {path.name: path.read_text().split() for path in (sweeps.folder / "struck").iterdir()}
    assert began_at == {"b16-lr1e-4": ["2"], "b16-lr1e-3": ["1"], "b64-lr1e-3": ["2"]}

    check_report(sweeps)
    folder = sweeps.folder / "sweeps/scripted-1"
    assert list((folder / "checkpoints").iterdir()) == [], "ended trials leave none"
    for name, steps in logged_points(folder).items():
        if states.get(name) is TrialState.COMPLETE:
            assert len(steps) == len(set(steps)) == 8, "every milestone once"
    assert "8 cells: 8 can run" in (folder / "plan.txt").read_text()
    assert (folder / "plan.txt").read_text() == next(folder.glob("artifacts/*/artifacts/plan.txt")).read_text()
    assert "b16-lr1e-4" in (folder / "best.yaml").read_text()


@pytest.mark.timeout(600)
def test_after_ctrl_c_and_after_kill_9_resume_ends_every_cell_exactly_once(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without checkpoints: what was interrupted, or crashed, begins anew."""
    faults = {"b16-lr1e-5": "slow", "b64-lr1e-4": "crash"}
    driver = sweeps.start("run", "space.yaml", "--sweep", "ended", "--plain", faults=faults)
    sweeps.wait_for("ended", lambda cells: cells["b16-lr1e-5"].samples_seen > 0)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 3, err
    assert "sweeper resume ended" in out + err

    driver = sweeps.start("resume", "--plain", faults=faults)
    sweeps.wait_for("ended", lambda cells: cells["b16-lr1e-5"].attempts == 2)
    driver.kill()
    driver.communicate()
    before = sweeps.cells("ended")
    assert before["b16-lr1e-5"].state is TrialState.RUNNING

    code, out, err = sweeps.run("resume", "ended", "--plain", faults=faults)
    assert code == 0, err
    after = sweeps.cells("ended")
    assert all(cell.state.is_final for cell in after.values())
    for name, cell in before.items():
        if cell.state.is_final:
            assert repr(after[name]) == repr(cell), "a finished cell was run again"  # NaN is not equal to itself
    assert after["b16-lr1e-5"].attempts == 3
    assert (after["b64-lr1e-4"].state, (sweeps.folder / "struck/b64-lr1e-4").read_text()) == (TrialState.COMPLETE, "")
    for name, steps in logged_points(sweeps.folder / "sweeps/ended").items():
        if name in after:
            assert len(steps) == len(set(steps)) == round(after[name].samples_seen / 128), name

    monkeypatch.chdir(sweeps.folder)
    assert main(["resume", "ended", "--plain"]) == 0
    assert repr(sweeps.cells("ended")) == repr(after), "a finished sweep has nothing left to run"
    capsys.readouterr()
    assert main(["replay", "ended", "--recorded"]) == 0
    given, of = re.match(r"ended: (\d+) of (\d+) verdicts are the same", capsys.readouterr().out).groups()
    assert given == of == str(sum(cell.samples_seen // 128 for cell in after.values()))


@pytest.mark.long
def test_a_local_search_that_was_killed_goes_on_and_ends_what_it_did_not_come_to(sweeps: Sweeps) -> None:
    grid = ["--set", "grid.batch_size=[16,32,64]", "--set", "search=local", "--set", "pruner=[]"]
    grid += ["--set", "train.ranks=1"]  # several gangs at a time, so that some wait for an outcome
    faults = {"b64-lr1e-4": "slow"}
    driver = sweeps.start("run", "space.yaml", *grid, "--sweep", "searched", "--plain", faults=faults)
    sweeps.wait_for("searched", lambda cells: cells["b64-lr1e-4"].samples_seen > 0)
    driver.kill()
    driver.communicate()

    code, out, err = sweeps.run("resume", "searched", "--plain")
    assert code == 0, err
    cells = sweeps.cells("searched")
    never = {name: cell for name, cell in cells.items() if cell.verdict is not None and cell.verdict.rule == RULE}
    assert all(cell.state is TrialState.PRUNED and cell.attempts == 0 for cell in never.values())
    assert {name for name, cell in cells.items() if cell.state is TrialState.COMPLETE} == set(cells) - set(never)
    assert {"b16-lr1", "b32-lr1", "b64-lr1"} <= set(never), "two values away from the best rate"
    assert "b32-lr1e-4" in (sweeps.folder / "sweeps/searched/best.yaml").read_text()
    assert "which no neighbour of it betters" in out
    assert set(logged_points(sweeps.folder / "sweeps/searched")) >= set(cells) - set(never)

    code, out, err = sweeps.run("replay", "searched", "--recorded")
    assert code == 0, out + err
    code, _, err = sweeps.run("report")
    assert code == 0, err
    code, _, err = sweeps.run("confirm", "searched", "--top", "2", "--seeds", "2", "--plain")
    assert code == 0, err
    assert sum(bool(cell.replicate_of) for cell in sweeps.cells("searched").values()) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["run", "space.yaml", "--set", "grid.batch_sise=[1]"], "did you mean 'batch_size'"),
        (["run", "space.yaml", "--set", "pruner=[meadian]"], "did you mean 'median'"),
        (["run", "space.yaml", "--set", "grid.batch_size=[4096]"], "larger than the training data (1024 samples)"),
        (["run", "space.yaml", "--sweep", "../x"], "--sweep"),
        (["resume", "none"], "no such sweep"),
        (["status"], "there is no sweep yet"),
        (["export", "none", "--to", "yaml"], "no such sweep"),
    ],
)
def test_wrong_use_is_code_2_with_one_message_and_writes_nothing(
    sweeps: Sweeps, arguments: list[str], message: str
) -> None:
    code, out, err = sweeps.run(*arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert [path.name for path in sweeps.folder.iterdir()] == ["space.yaml"]


def test_a_gang_that_fits_nowhere_is_refused_before_anything_is_written(sweeps: Sweeps) -> None:
    code, _, err = sweeps.run("run", "space.yaml", "--set", "train.ranks=999", "--plain")
    assert code == 2
    assert "a gang of 999 ranks needs 999 x (1 CPU)" in err
    assert [path.name for path in sweeps.folder.iterdir()] == ["space.yaml"]
