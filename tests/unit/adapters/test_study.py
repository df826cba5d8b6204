"""The study keeps the truth about every cell, on each of Optuna's storages alike."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_commands import answer_to, give_answer, new_id, post, unanswered
from sweeper.adapters.study_storage import storage_for
from sweeper.adapters.yaml_space import load_space
from sweeper.clones import clone_cell, cloned_cells
from sweeper.core.command import Command
from sweeper.core.errors import LifecycleError, RecordError
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.objective import Objective
from sweeper.core.space import Cell
from sweeper.core.verdict import proceed, prune
from sweeper.pruners.compose import from_spec
from sweeper.pruners.record import is_calibration

SPACE = """\
sweep: demo
model: {path: m}
data: {train: t, test: {new: n}}
grid: {batch_size: [16, 64], learning_rate: [1e-4, 1e-3]}
"""
Open = Callable[[], StudyLedger]


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_space(tmp_path / "space.yaml")[1]


@pytest.fixture(params=["journal", "sqlite", "memory"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    in_memory = optuna.storages.InMemoryStorage()
    storages: dict[str, Callable[[], optuna.storages.BaseStorage]] = {
        "journal": lambda: storage_for(tmp_path / "study.journal"),
        "sqlite": lambda: storage_for(f"sqlite:///{tmp_path / 'study.db'}"),
        "memory": lambda: in_memory,
    }
    return lambda: StudyLedger.open(
        storages[request.param](),
        "demo",
        Objective(),
        pruner=from_spec([], direction="minimize"),
        grid={"batch_size": (16, 64), "learning_rate": (1e-4, 1e-3)},
    )


def measurement(milestone: int, loss: float) -> Measurement:
    return Measurement(
        milestone=milestone,
        samples_seen=100 * milestone,
        tokens_seen=1000 * milestone,
        step=milestone,
        warmup_done=True,
        train_loss=loss,
        grad_norm=1.0,
        scores={"heldout_loss": loss},
        train_s=2.0 * milestone,
        eval_s=1.0,
        peak_memory_bytes=1,
        is_last=False,
    )


def enter(ledger: StudyLedger, cells: tuple[Cell, ...]) -> None:
    for cell in cells:
        infeasible = "batch too large" if cell.index == 3 else None
        ledger.add_cell(cell, planned_samples=800, calibration=cell.index == 0, infeasible=infeasible)


def test_cells_are_entered_once_and_found_again_by_another_process(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    enter(open_ledger(), cells)
    again = open_ledger()
    enter(again, cells)
    records = again.cells()
    assert [record.name for record in records] == [cell.name for cell in cells]
    assert [record.state for record in records] == [TrialState.WAITING] * 3 + [TrialState.INFEASIBLE]
    assert records[0].calibration
    assert records[3].detail == "batch too large"
    assert dict(records[1].axes) == {"batch_size": 16, "learning_rate": 1e-3}


def test_a_trial_s_life_is_kept_and_a_repeated_measurement_changes_nothing(
    open_ledger: Open, cells: tuple[Cell, ...]
) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    ledger.start(key)
    for milestone, loss in ((1, 3.0), (2, 2.0)):
        ledger.record(key, measurement(milestone, loss))
        ledger.keep_verdict(key, milestone, ledger.advise(key))
    ledger.record(key, measurement(2, 9.0))
    running = open_ledger().cell(key)
    assert (running.state, running.samples_seen, running.objective, running.train_s) == (
        TrialState.RUNNING,
        200,
        2.0,
        4.0,
    )
    ledger.finish(key, TrialState.COMPLETE, objective=2.0)
    done = open_ledger().cell(key)
    assert (done.state, done.objective, done.attempts) == (TrialState.COMPLETE, 2.0, 1)


def test_a_local_study_forces_each_start_decision_and_end_to_the_disk_once(
    cells: tuple[Cell, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    ledger, other = (StudyLedger.open(storage_for(tmp_path / "study.journal"), "demo", Objective()) for _ in range(2))
    key = cells[0].fingerprint
    enter(ledger, cells)
    monkeypatch.setattr(os, "fsync", forced.append)
    ledger.start(key)
    ledger.record(key, measurement(1, 3.0))
    seen = max(trial.last_step or 0 for trial in other.study.get_trials())
    assert seen == 100, "what is not forced yet outlives the process all the same"
    ledger.keep_verdict(key, 1, proceed("r", "why", 100))
    ledger.finish(key, TrialState.COMPLETE, objective=3.0)
    assert len(forced) == 3


def test_a_verdict_once_given_stays(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    ledger.start(key)
    assert ledger.verdict_at(key, 1) is None
    verdict = prune("divergence", "loss rose", 100, signals={"train_loss": math.inf}, threshold=3.0)
    ledger.keep_verdict(key, 1, verdict)
    assert open_ledger().verdict_at(key, 1) == verdict


def test_non_finite_numbers_are_recorded_and_the_guard_sees_them(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    ledger.start(key)
    ledger.record(key, measurement(1, math.nan))
    verdict = ledger.advise(key)
    assert verdict.prunes
    assert verdict.rule == "non_finite"
    ledger.finish(key, TrialState.PRUNED)
    assert open_ledger().cell(key).state is TrialState.PRUNED


def test_a_cell_that_was_never_started_is_pruned_with_its_verdict(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    assert ledger.skip(key) is None
    ledger.keep_verdict(key, 0, prune("skip_hopeless", "never started", 0))
    ledger.finish(key, TrialState.PRUNED)
    found = open_ledger().cell(key)
    assert (found.state, found.samples_seen, found.attempts, found.objective) == (TrialState.PRUNED, 0, 0, None)
    assert found.verdict is not None
    assert found.verdict.rule == "skip_hopeless"
    with pytest.raises(LifecycleError):
        ledger.start(key)


def test_an_ended_cell_cannot_start_or_end_again(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    with pytest.raises(LifecycleError):
        ledger.finish(key, TrialState.COMPLETE, objective=1.0)
    ledger.start(key)
    ledger.finish(key, TrialState.FAIL, cause=FailCause.OOM, detail="out of memory")
    assert ledger.cell(key).detail == "out of memory"
    with pytest.raises(LifecycleError):
        ledger.start(key)
    with pytest.raises(LifecycleError):
        ledger.finish(key, TrialState.COMPLETE, objective=1.0)


def test_an_interrupted_cell_starts_again_and_counts_the_attempt(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    ledger.start(key)
    later = open_ledger()
    later.start(key)
    assert later.cell(key).attempts == 2


def test_a_study_of_someone_else_is_refused(tmp_path: Path) -> None:
    storage = storage_for(tmp_path / "foreign.journal")
    foreign = optuna.create_study(storage=storage, study_name="demo")
    foreign.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(RecordError, match="fingerprint"):
        StudyLedger.open(storage, "demo", Objective())


def test_a_rule_once_suspended_ends_nothing_and_keeps_its_first_reason(
    open_ledger: Open, cells: tuple[Cell, ...]
) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    ledger.start(key)
    ledger.record(key, measurement(1, math.nan))
    ledger.suspend("non_finite", "it was wrong")
    ledger.suspend("non_finite", "it was wrong again")
    assert open_ledger().suspended() == {"non_finite": "it was wrong"}
    verdict = open_ledger().advise(key)
    assert not verdict.prunes
    assert ledger.finals() == {}
    ledger.finish(key, TrialState.COMPLETE, objective=1.5)
    assert open_ledger().finals() == {key: 1.5}


def test_a_trial_that_its_user_brings_back_keeps_its_measurements_and_only_guards_may_end_it(
    open_ledger: Open, cells: tuple[Cell, ...]
) -> None:
    ledger, key = open_ledger(), cells[1].fingerprint
    enter(ledger, cells)
    ledger.start(key)
    ledger.record(key, measurement(1, 2.0))
    ledger.keep_verdict(key, 1, proceed("median", "so far so good", 100))
    ledger.record(key, measurement(2, 1.5))
    ledger.keep_verdict(key, 2, prune("median", "worse than half", 200))
    with pytest.raises(LifecycleError, match="not pruned"):
        ledger.revive(key)
    ledger.finish(key, TrialState.PRUNED)
    ledger.revive(key)

    later = open_ledger()
    assert [record.fingerprint for record in later.cells()] == [cell.fingerprint for cell in cells], "no cell twice"
    cell = later.cell(key)
    assert (cell.state, cell.samples_seen, cell.objective, cell.is_wanted) == (TrialState.WAITING, 200, 1.5, True)
    assert later.verdict_at(key, 1) is not None
    assert later.verdict_at(key, 2) is None
    later.start(key)
    assert is_calibration(later.study.trials[-1])
    later.finish(key, TrialState.COMPLETE, objective=1.0)
    assert open_ledger().cell(key).state is TrialState.COMPLETE
    assert open_ledger().finals() == {key: 1.0}


@pytest.mark.parametrize("begun", [False, True])
def test_a_user_ends_a_trial_whether_it_has_begun_or_not(
    open_ledger: Open, cells: tuple[Cell, ...], begun: bool
) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    if begun:
        ledger.start(key)
        ledger.record(key, measurement(1, 2.0))
        ledger.keep_verdict(key, 1, proceed("median", "so far so good", 100))
    ledger.dismiss(key, prune("user", "ended by ada", 100 * begun))
    cell = open_ledger().cell(key)
    assert (cell.state, cell.verdict.rule if cell.verdict else "") == (TrialState.PRUNED, "user")
    with pytest.raises(LifecycleError):
        ledger.dismiss(key, prune("user", "ended by bob", 0))


def test_a_clone_off_the_grid_is_kept_and_found_again(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    ledger = open_ledger()
    enter(ledger, cells)
    source = ledger.cell(cells[0].fingerprint)
    clone = clone_cell(source, ledger.config(source.fingerprint), {"learning_rate": 3e-4, "weight_decay": 0.1}, index=4)
    ledger.add_cell(clone, planned_samples=800, calibration=False, clone_of=source.fingerprint)
    again = open_ledger()
    enter(again, cells)
    assert cloned_cells(again) == [clone]
    assert again.cell(clone.fingerprint).clone_of == source.fingerprint
    assert clone.config.train.weight_decay == 0.1


def test_a_command_is_taken_up_once_in_the_order_of_asking(open_ledger: Open) -> None:
    terminal, driver = open_ledger(), open_ledger()
    first = Command(id=new_id(), kind="clone", trial="abc", settings={"learning_rate": 1e-4})
    second = Command(id=new_id(), kind="stop")
    for command in (first, second):
        post(terminal.study, command)
    assert unanswered(driver.study) == (first, second)
    give_answer(driver.study, first, "runs next")
    assert unanswered(driver.study) == (second,)
    assert answer_to(terminal.study, first) == "runs next"
    assert answer_to(terminal.study, second) is None
