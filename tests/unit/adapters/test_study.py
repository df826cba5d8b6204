"""The study keeps the truth about every cell, on each of Optuna's storages alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from sweeper.adapters.study import StudyLedger, storage_for
from sweeper.adapters.yaml_space import load_space
from sweeper.core.errors import LifecycleError, RecordError
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.space import Cell, Objective
from sweeper.core.verdict import prune
from sweeper.pruners.compose import from_spec

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


def test_an_ended_cell_cannot_start_or_end_again(open_ledger: Open, cells: tuple[Cell, ...]) -> None:
    ledger, key = open_ledger(), cells[0].fingerprint
    enter(ledger, cells)
    with pytest.raises(LifecycleError):
        ledger.finish(key, TrialState.PRUNED)
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
