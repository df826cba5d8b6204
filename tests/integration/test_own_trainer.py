"""Trials that a trainer of the user's own runs: one trial on its session, and a whole sweep on Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.adapters.process.program import ProgramDied, ProgramError
from sweeper.adapters.process.session import FOLDER_VARIABLE, OUTPUTS_VARIABLE, ProgramSession
from sweeper.adapters.yaml_space import load_space
from sweeper.core.config import TrialConfig
from sweeper.core.derive import derive
from sweeper.core.errors import InputError
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.milestones import Milestones
from sweeper.sweep import open_ledger

TRAINERS = Path(__file__).parents[1] / "own_trainers"
LAUNCH = f"{{python}} {TRAINERS / 'scripted_ranks.py'} launch {{learning_rate}} {{batch_size}} {{planned_samples}}"
pytestmark = pytest.mark.slow


class Place:
    """A folder to run in, and the processes that signed there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signed = folder / "signed"
        self.signed.mkdir()

    def lines(self, word: str) -> list[str]:
        """Return all lines that begin with a word."""
        texts = [file.read_text() for file in self.signed.iterdir()]
        return sorted(line for text in texts for line in text.splitlines() if line.startswith(word))

    def alive(self) -> list[str]:
        """Return the processes that signed and are still in the table of the kernel, zombies aside."""
        states = {}
        for file in self.signed.iterdir():
            stat = Path(f"/proc/{file.stem}/stat")
            if stat.exists():
                states[file.stem] = stat.read_text().rpartition(")")[2].split()[0]
        return [pid for pid, state in states.items() if state not in "ZX"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(tmp_path)
    monkeypatch.setenv("SIGNED", str(found.signed))
    monkeypatch.setenv(FOLDER_VARIABLE, str(TRAINERS))
    monkeypatch.setenv(OUTPUTS_VARIABLE, str(tmp_path / "outputs"))
    return found


@pytest.fixture
def session() -> Iterator[ProgramSession]:
    session = ProgramSession(rank=0, world_size=1)
    session.connect("tcp://127.0.0.1:1")
    yield session
    session.end()


def config_of(place: Place, trial: str, *, samples: int = 512, epochs: int = 1) -> TrialConfig:
    text = f"""
        sweep: own
        trial: {{train_samples: {samples}, {trial}}}
        eval: {{milestones: 4}}
        train: {{ranks: 2, epochs: {epochs}}}
        grid: {{batch_size: [16], learning_rate: [1e-4]}}
    """
    (place.folder / "space.yaml").write_text(textwrap.dedent(text))
    return load_space(place.folder / "space.yaml")[1][0].config


def start(session: ProgramSession, config: TrialConfig) -> None:
    assert config.trial is not None
    planned = derive(config.train, config.trial.train_samples).planned_samples
    session.start(config, Milestones.even(planned, config.eval.milestones))


def test_a_function_reports_each_milestone_and_its_end(place: Place, session: ProgramSession) -> None:
    start(session, config_of(place, "function: scripted_ranks:train"))
    measured = [session.advance() for _ in range(4)]
    assert [m.samples_seen for m in measured if m] == [128, 256, 384, 512]
    assert [m.is_last for m in measured if m] == [False, False, False, True]
    first = measured[0]
    assert first is not None
    assert [point.samples_seen for point in first.series] == list(range(16, 144, 16))
    assert first.grad_norm == pytest.approx(first.train_loss / 2)
    assert first.scores["heldout_loss"] == first.series[-1].loss
    assert place.lines("ended") == ["ended"]
    assert place.alive() == []


def test_a_function_that_is_not_let_past_a_milestone_leaves_there(place: Place, session: ProgramSession) -> None:
    start(session, config_of(place, "function: scripted_ranks:train"))
    session.advance()
    session.advance()
    assert place.lines("stopped") == []
    session.end()
    assert place.lines("stopped") == ["stopped 256"]
    assert place.alive() == []


def test_the_end_of_a_trainer_that_fails_or_stops_short_says_why(place: Place, session: ProgramSession) -> None:
    start(session, config_of(place, "command: \"sh -c 'echo ValueError: no such column >&2; exit 3'\""))
    with pytest.raises(ProgramError, match=r"(?s)exit code 3.*ValueError: no such column$"):
        session.advance()
    start(session, config_of(place, "command: 'true'"))
    with pytest.raises(InputError, match="without a report of its last samples"):
        session.advance()
    start(session, config_of(place, "command: \"sh -c 'kill -9 $$'\""))
    with pytest.raises(ProgramDied, match=r"was killed \(-9\)"):
        session.advance()


def test_what_a_command_logs_to_mlflow_becomes_measurements(place: Place, session: ProgramSession) -> None:
    start(session, config_of(place, f"signals: mlflow, command: '{LAUNCH}'"))
    measured = [session.advance() for _ in range(2)]
    assert [(m.milestone, m.samples_seen, m.step) for m in measured if m] == [(1, 128, 8), (2, 256, 16)]
    second = measured[1]
    assert second is not None
    assert [point.step for point in second.series] == list(range(9, 17))
    assert second.scores == {"heldout_loss": second.series[-1].loss}
    assert second.grad_norm == pytest.approx(second.train_loss / 2)
    assert len(place.alive()) == 2
    session.end()
    assert len(place.lines("began")) == 2, "both ranks had begun"
    assert place.lines("ended") == []
    assert place.alive() == [], "in sessions of their own, and ended all the same"


@pytest.mark.long
def test_the_callback_leaves_training_on_every_rank_at_the_milestone(place: Place, session: ProgramSession) -> None:
    """Each of 2 epochs of 100 samples takes 6 steps of 16 and one of 4; milestones are 50, 100, 150 and 200."""
    script = TRAINERS / "tiny_trainer.py"
    launch = f"torchrun --standalone --nproc-per-node={{ranks}} {script} {{output}}/model {{batch_size_per_rank}}"
    start(session, config_of(place, f"command: '{launch}'", samples=100, epochs=2))
    first, second = session.advance(), session.advance()
    assert first is not None
    assert second is not None
    assert [point.samples_seen for point in first.series] == [16, 32, 48, 64]
    assert [point.samples_seen for point in second.series] == [80, 96, 100]
    for measured in (first, second):
        assert 0 < measured.scores["heldout_loss"] < 10
        assert measured.grad_norm > 0
        assert measured.eval_s > 0
    assert len(place.alive()) == 2
    session.end()
    assert place.lines("stopped") == ["stopped 7", "stopped 7"]
    assert place.lines("ended") == []
    assert place.alive() == []


def test_a_trial_ends_whole_when_its_session_is_killed(place: Place) -> None:
    (place.folder / "hold.py").write_text(
        "import subprocess, sys, os, time\n"
        f"sys.path.insert(0, {str(TRAINERS)!r})\n"
        "from scripted_ranks import sign\n"
        "if len(sys.argv) == 1:\n"
        "    subprocess.Popen([sys.executable, __file__, 'child'], start_new_session=True)\n"
        "sign('began')\n"
        "time.sleep(100)\n"
    )
    (place.folder / "hold_session.py").write_text(
        "import os, sys, time\nfrom pathlib import Path\nfrom sweeper.adapters.process.program import Program\n"
        f"Program([sys.executable, {str(place.folder / 'hold.py')!r}], folder='.', environment=os.environ, "
        f"log=Path({str(place.folder / 'log')!r}), scratch=Path({str(place.folder / 'scratch')!r}))\n"
        "time.sleep(100)\n"
    )
    (place.folder / "scratch").mkdir()
    holder = subprocess.Popen([sys.executable, str(place.folder / "hold_session.py")])
    try:
        assert wait_until(lambda: len(place.lines("began")) == 2)
    finally:
        holder.kill()
        holder.wait()
    assert wait_until(lambda: not place.alive())
    assert wait_until(lambda: not (place.folder / "scratch").exists())


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


SPACE = """
sweep: own
trial: {{train_samples: 512, {trial}}}
train: {{ranks: 2}}
eval: {{milestones: 4}}
order: {{calibration: 1}}
grid:
  batch_size: [16]
  learning_rate: [1e-4, 1]
"""


def test_a_sweep_prunes_on_every_rank_and_keeps_the_record_of_native_trials(place: Place) -> None:
    trial = "function: scripted_ranks:train"
    (place.folder / "space.yaml").write_text(SPACE.format(trial=trial))
    environment = os.environ | {"SWEEPER_HOME": str(place.folder / "sweeps")}
    command = [sys.executable, "-m", "sweeper.cli", "run", str(place.folder / "space.yaml"), "--plain"]
    done = subprocess.run(command, cwd=TRAINERS, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = SweepFolder(place.folder / "sweeps/own-1")
    cells = {cell.name: cell for cell in open_ledger(folder, load_space(folder.space)[0]).cells()}
    assert {name: cell.state for name, cell in cells.items()} == {
        "b16-lr1e-4": TrialState.COMPLETE,
        "b16-lr1": TrialState.PRUNED,
    }
    pruned = cells["b16-lr1"]
    assert place.lines("stopped") == [f"stopped {pruned.samples_seen}"] * 2, "both ranks, at the same step"
    assert place.lines("began") == sorted(f"began {rate} {rank}/2" for rate in ("0.0001", "1.0") for rank in (0, 1))
    assert place.alive() == []
    assert "#   scripted_ranks:train, called on each rank with this config" in folder.export.read_text()
    check_layout(folder)


def check_layout(folder: SweepFolder) -> None:
    """A trial's run holds the metrics and tags that docs/record.md promises."""
    from mlflow import MlflowClient

    client = MlflowClient(folder.mlflow_uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    by_name = {str(run.info.run_name): run for run in runs}
    assert set(by_name) == {"b16-lr1e-4", "b16-lr1", "summary"}
    promised = {"train/loss", "train/grad_norm", "train/learning_rate", "score/heldout_loss", "judged/train_loss"}
    promised |= {"judged/grad_norm", "progress/milestone", "progress/optimizer_step", "progress/train_s"}
    for name, status in (("b16-lr1e-4", "FINISHED"), ("b16-lr1", "KILLED")):
        run = by_name[name]
        assert promised <= set(run.data.metrics)
        assert run.info.status == status
        assert run.data.tags["sweeper.fingerprint"]
    steps = [m.step for m in client.get_metric_history(by_name["b16-lr1e-4"].info.run_id, "train/loss")]
    assert steps == list(range(16, 528, 16))
