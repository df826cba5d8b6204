"""Mode promote on a real Ray, with scripted gangs: pauses, promotions, budgets, and a driver that is killed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from test_sweep_scripted import Sweeps, logged_points

from sweeper.adapters.ray.states import memory_folder, size_of
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.promoter import arrival

PROMOTE = ["--set", "mode=promote", "--plain"]
SMALL = ["--set", "grid.learning_rate=[1e-5, 1e-4]", "--set", "pruner=[]"]
NAMES = ["b16-lr1e-5", "b16-lr1e-4", "b64-lr1e-5", "b64-lr1e-4"]
SLOW = dict.fromkeys(NAMES, "slow")
GIB = 2**30

pytestmark = pytest.mark.long


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweeps]:
    monkeypatch.setenv("SCRIPTED_TOLD_S", "1000")  # training that is dear, so that no state is too cheap to keep
    found = Sweeps(tmp_path)
    yield found
    found.end()


def went_on_from(sweeps: Sweeps, name: str) -> list[str]:
    """Return the milestones at which a trial's state was restored."""
    mark = sweeps.folder / "struck" / name
    return mark.read_text().split() if mark.exists() else []


def check_record(sweeps: Sweeps, name: str) -> None:
    """Every milestone of every trial once, no state left, and the verdicts follow from the record."""
    folder = sweeps.folder / "sweeps" / name
    points = logged_points(folder)
    for cell in sweeps.cells(name).values():
        assert cell.state.is_final
        assert len(points[cell.name]) == len(set(points[cell.name])) == cell.samples_seen // 128, cell.name
    assert not (folder / "paused").exists()
    assert not memory_folder(folder).exists()
    code, out, err = sweeps.run("replay", name, "--recorded")
    assert code == 0, out + err


def test_every_cell_comes_to_its_first_rung_and_the_paused_ones_go_on_from_there(sweeps: Sweeps) -> None:
    code, out, err = sweeps.run("run", "space.yaml", *PROMOTE, "--set", "pruner=[median]", "--sweep", "all")
    assert code == 0, err
    begun = [line.split()[3] for line in out.splitlines() if " start " in line]
    grid = list(sweeps.cells("all"))
    assert begun == [grid[place] for place in arrival(len(grid), 0)]
    assert out.index(f"start  {begun[-1]}") < out.index("go on")
    assert out.count(" pause ") >= len(grid) - 1
    cells = sweeps.cells("all")
    condemned = [name for name in begun if cells[name].samples_seen == 128]
    assert condemned == ["b64-lr1"], "asked about again before it would have gone on"
    went_on = {name: went_on_from(sweeps, name) for name in begun[:-1] if name not in condemned}
    assert all(milestones == ["1"] for milestones in went_on.values()), went_on
    assert all(cells[name].attempts == 1 for name in begun), "a pause is no failed attempt"
    assert {name for name, cell in cells.items() if cell.state is TrialState.PRUNED} == {"b16-lr1", "b64-lr1"}
    check_record(sweeps, "all")


@pytest.mark.parametrize("budget", [[], ["--set", "resources.paused_memory_gib=1"]], ids=["disk", "memory"])
def test_after_kill_9_the_paused_trials_go_on_from_their_states(sweeps: Sweeps, budget: list[str]) -> None:
    driver = sweeps.start("run", "space.yaml", *PROMOTE, *SMALL, *budget, "--sweep", "killed", faults=SLOW)
    sweeps.wait_for("killed", lambda cells: any(cell.samples_seen >= 384 for cell in cells.values()))
    driver.kill()
    driver.communicate()
    before = sweeps.cells("killed")
    paused = [name for name, cell in before.items() if cell.state is TrialState.PAUSED]
    assert len(paused) >= 2
    folder = SweepFolder(sweeps.folder / "sweeps/killed")
    states = memory_folder(folder.path) if budget else folder.path / "paused"
    assert all((states / before[name].fingerprint / "step-001").is_dir() for name in paused)
    code, out, err = sweeps.run("status", "killed")
    assert code == 0, err
    assert out.count("paused") >= len(paused)

    code, out, err = sweeps.run("resume", "killed", "--plain")
    assert code == 0, err
    after = sweeps.cells("killed")
    assert {cell.state for cell in after.values()} == {TrialState.COMPLETE}
    assert all(went_on_from(sweeps, name) == ["1"] for name in paused)
    assert all(after[name].attempts == 1 for name in paused)
    check_record(sweeps, "killed")


def test_states_never_take_more_than_their_budget_and_what_is_dropped_is_trained_again(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPTED_STATE_BYTES", "1000")
    room = ["--set", f"resources.paused_disk_gib={2500 / GIB}"]
    driver = sweeps.start("run", "space.yaml", *PROMOTE, *SMALL, *room, "--sweep", "tight", faults=SLOW)
    most = 0
    while driver.poll() is None:
        try:
            most = max(most, size_of(sweeps.folder / "sweeps/tight/paused"))
        except FileNotFoundError:  # deleted meanwhile
            continue
    out, err = driver.communicate()
    assert driver.returncode == 0, err
    assert 1000 <= most <= 2500
    assert "its state is not kept" in out or any(not went_on_from(sweeps, name) for name in NAMES)
    cells = sweeps.cells("tight")
    assert {cell.state for cell in cells.values()} == {TrialState.COMPLETE}
    assert sum(went_on_from(sweeps, name) == ["1"] for name in cells) <= 2
    check_record(sweeps, "tight")


def test_a_paused_trial_that_its_user_ends_is_ended_and_its_state_deleted(sweeps: Sweeps) -> None:
    driver = sweeps.start("run", "space.yaml", *PROMOTE, *SMALL, "--sweep", "led", faults=SLOW)
    sweeps.wait_for("led", lambda cells: any(cell.samples_seen >= 256 for cell in cells.values()))
    paused = next(cell for cell in sweeps.cells("led").values() if cell.state is TrialState.PAUSED)
    code, out, err = sweeps.run("stop", "led", paused.name)
    assert (code, out.strip()) == (0, f"{paused.name} is ended"), err
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, out + err
    cells = sweeps.cells("led")
    assert cells[paused.name].state is TrialState.PRUNED
    assert cells[paused.name].samples_seen == paused.samples_seen
    assert went_on_from(sweeps, paused.name) == []
    check_record(sweeps, "led")


def test_ctrl_c_saves_the_running_trial_which_then_goes_on_first(sweeps: Sweeps) -> None:
    driver = sweeps.start("run", "space.yaml", *PROMOTE, *SMALL, "--sweep", "left", faults=SLOW)
    sweeps.wait_for("left", lambda cells: any(cell.samples_seen >= 256 for cell in cells.values()))
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=90)
    assert driver.returncode == 3, out + err
    (running,) = [cell for cell in sweeps.cells("left").values() if cell.state is TrialState.RUNNING]
    code, out, err = sweeps.run("resume", "left", "--plain")
    assert code == 0, err
    assert went_on_from(sweeps, running.name)[-1] == str(running.samples_seen // 128)
    assert next(line for line in out.splitlines() if " start " in line or " go on " in line).split()[3] == running.name
    check_record(sweeps, "left")


def test_failures_count_for_a_trial_as_a_whole_however_often_it_was_paused(sweeps: Sweeps) -> None:
    """It breaks on the way to every milestone: the second time, past a pause, is one too many, or eight are allowed."""
    broken = NAMES[arrival(len(NAMES), 0)[0]]  # the first to begin, and so to be paused
    faults = {broken: "crash-each"}
    few = ["--set", "resources.max_failures=1"]
    code, out, err = sweeps.run("run", "space.yaml", *PROMOTE, *SMALL, *few, "--sweep", "few", faults=faults)
    assert code == 0, err
    cells = sweeps.cells("few")
    failed = cells.pop(broken)
    assert out.count(f" pause  {broken}") == 1, out
    assert (failed.state, failed.cause, failed.samples_seen) == (TrialState.FAIL, FailCause.CRASH, 128), out
    assert out.count("is tried again") == 1, out
    assert {cell.state for cell in cells.values()} == {TrialState.COMPLETE}
    check_record(sweeps, "few")

    for mark in (sweeps.folder / "struck").iterdir():
        mark.unlink()
    enough = ["--set", "resources.max_failures=8"]
    code, out, err = sweeps.run("run", "space.yaml", *PROMOTE, *SMALL, *enough, "--sweep", "enough", faults=faults)
    assert code == 0, err
    assert {cell.state for cell in sweeps.cells("enough").values()} == {TrialState.COMPLETE}
    assert out.count("is tried again") == 8, out
    check_record(sweeps, "enough")
