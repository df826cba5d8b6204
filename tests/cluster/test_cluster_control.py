"""Control from another terminal, with and without a process that drives the sweep."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from test_sweep_scripted import Sweeps, logged_points

from sweeper.adapters.ray.interrupt import Interrupt
from sweeper.adapters.yaml_space import load_space
from sweeper.core.decode import encode
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.planned import facts_key
from sweeper.sweep import open_ledger

SLOW = dict.fromkeys(["b16-lr1e-5", "b16-lr1e-4", "b64-lr1e-5", "b64-lr1e-4"], "slow")
SMALL = ["--set", "pruner=[]", "--set", "grid.learning_rate=[1e-5, 1e-4]", "--set", "order.calibration=0"]
KEPT = ["--set", "resources.checkpoint_every=1", "--set", "resources.keep_pruned=1"]


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Sweeps]:
    found = Sweeps(tmp_path)
    yield found
    found.end()


def asked(sweeps: Sweeps, *words: str) -> str:
    code, out, err = sweeps.run(*words)
    assert code == 0, err
    return out.strip()


@pytest.mark.long
def test_a_running_sweep_takes_orders_and_one_that_was_stopped_takes_them_up_when_resumed(sweeps: Sweeps) -> None:
    driver = sweeps.start("run", "space.yaml", *SMALL, *KEPT, "--sweep", "led", "--plain", faults=SLOW)
    sweeps.wait_for("led", lambda cells: any(cell.samples_seen >= 256 for cell in cells.values()))
    first = next(cell for cell in sweeps.cells("led").values() if cell.samples_seen)
    assert asked(sweeps, "stop", "led", first.name) == f"{first.name} is ended"
    assert sweeps.cells("led")[first.name].state is TrialState.PRUNED
    last = next(cell for cell in sweeps.cells("led").values() if cell.state is TrialState.WAITING)
    assert asked(sweeps, "stop", "led", last.fingerprint[:8]) == f"{last.name} is ended"
    assert asked(sweeps, "unprune", "led", first.name) == f"{first.name} runs again"
    assert "the sweep's process ends" in asked(sweeps, "stop", "led")
    out, err = driver.communicate(timeout=90)
    assert driver.returncode == 3, out + err
    check_stopped(sweeps, first.name, last.name)

    assert "taken up by sweeper resume led" in asked(sweeps, "clone", "led", first.name, "--set", "learning_rate=2e-4")
    code, out, err = sweeps.run("resume", "led", "--plain")
    assert code == 0, out + err
    cells = sweeps.cells("led")
    assert "b16-lr2e-4" in cells or "b64-lr2e-4" in cells
    states = {name: cell.state for name, cell in cells.items()}
    assert states.pop(last.name) is TrialState.PRUNED
    assert set(states.values()) == {TrialState.COMPLETE}
    check_record(sweeps, first.name)


def check_stopped(sweeps: Sweeps, first: str, last: str) -> None:
    cells = sweeps.cells("led")
    assert cells[first].state in (TrialState.RUNNING, TrialState.WAITING)
    assert cells[last].samples_seen == 0
    assert cells[last].verdict is not None
    assert cells[last].verdict.rule == "user"


def check_record(sweeps: Sweeps, first: str) -> None:
    """The trial that was brought back went on from its checkpoint, in its own MLflow run, each milestone once."""
    assert (sweeps.folder / "struck" / first).read_text().split()[0] != "0"
    steps = logged_points(sweeps.folder / "sweeps/led")[first]
    assert len(steps) == len(set(steps)) == 8
    code, out, err = sweeps.run("replay", "led", "--recorded")
    assert code == 0, out + err
    code, _, err = sweeps.run("report", "led")
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stop", "done", "b16-lr9"], "there is no such trial, got 'b16-lr9'"),
        (["stop", "done", "b16-lr1e-4"], "b16-lr1e-4: has ended already, got 'complete'"),
        (["unprune", "done", "b16-lr1e-4"], "b16-lr1e-4: is not pruned, got 'complete'"),
        (["stop", "done"], "no process runs this sweep"),
        (["clone", "done", "b16-lr1e-4", "--set", "learning_rat=1"], "learning_rat"),
        (
            ["clone", "done", "b16-lr1e-4", "--set", "batch_size=64"],
            "has this cell already, got 'b64-lr1e-4'",
        ),
        (["clone", "done", "b16-lr1e-4", "--set", "batch_size=4096"], "larger than the training data"),
        (["clone", "done", "b16-lr1e-4", "--set", "ranks=3"], "3 ranks cannot be spread evenly over 2 nodes"),
        (["clone", "done", "b16-lr1e-4", "--set", "model.path=x"], "a clone changes training settings only"),
    ],
)
def test_what_cannot_be_done_is_refused_with_one_line(
    done: Sweeps, words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.cli import main

    monkeypatch.chdir(done.folder)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert "command:" not in (done.folder / "sweeps/done/study.journal").read_text()


@pytest.fixture
def done(tmp_path: Path) -> Sweeps:
    """A sweep of four cells, of which one ran to its end."""
    sweeps = Sweeps(tmp_path)
    folder = SweepFolder(tmp_path / "sweeps/done")
    folder.path.mkdir(parents=True)
    space, cells = load_space(tmp_path / "space.yaml", [*SMALL[1::2], "resources.nodes_per_trial=2"])
    facts = {"facts": {facts_key(cells[0].config): {"train_samples": 1024}}, "versions": {}, "git_commit": None}
    folder.facts.write_text(json.dumps(facts))
    folder.space.write_text(yaml.safe_dump(encode(space)))
    ledger = open_ledger(folder, space)
    for cell in cells:
        ledger.add_cell(cell, planned_samples=1024, calibration=False)
    ended = next(cell.fingerprint for cell in cells if cell.name == "b16-lr1e-4")
    ledger.start(ended)
    ledger.finish(ended, TrialState.COMPLETE, objective=1.0)
    return sweeps


@pytest.mark.cluster
def test_ctrl_c_waits_for_the_next_milestones_and_their_checkpoints(sweeps: Sweeps) -> None:
    driver = sweeps.start("run", "space.yaml", *SMALL, *KEPT, "--sweep", "once", "--plain", faults=SLOW)
    sweeps.wait_for("once", lambda cells: any(cell.samples_seen >= 256 for cell in cells.values()))
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=90)
    assert driver.returncode == 3, out + err
    assert "each to its next milestone and checkpoint" in out
    folder = sweeps.folder / "sweeps/once/checkpoints"
    running = [cell for cell in sweeps.cells("once").values() if cell.state is TrialState.RUNNING]
    assert running
    for cell in running:
        kept = max((folder / cell.fingerprint).glob("step-*/done"))
        assert int(kept.read_text()) == cell.samples_seen // 128, "the very milestone that was judged last"


def test_the_first_interrupt_asks_and_the_second_is_raised() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.is_asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
