"""Which cell is proposed next, and what that costs on a large grid."""

from __future__ import annotations

import random
from collections.abc import Sequence

import optuna
import pytest

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.core.decode import decode
from sweeper.core.derive import derive
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.objective import Objective
from sweeper.core.record import TrialInfo
from sweeper.core.search import LATER
from sweeper.core.sections import OrderConfig
from sweeper.core.space import Cell, SearchSpace, expand
from sweeper.core.verdict import prune
from sweeper.proposer import Proposer

SAMPLES = 1024


class Ledger(StudyLedger):
    """Counts the cells that are read."""

    read = 0

    def cell(self, fingerprint: str) -> CellRecord:
        self.read += 1
        return super().cell(fingerprint)

    def cells(self) -> tuple[CellRecord, ...]:
        found = super().cells()
        self.read += len(found)
        return found


@pytest.fixture
def grid() -> tuple[Cell, ...]:
    axes = {"batch_size": [16, 32, 64, 128], "learning_rate": [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3]}
    plain = {"model": {"path": "m"}, "data": {"train": ["t"], "test": {"new": "n"}}, "grid": axes}
    return expand(decode(SearchSpace, {"sweep": "many", **plain}))


@pytest.fixture
def ledger(grid: tuple[Cell, ...]) -> Ledger:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = Ledger(optuna.create_study(), Objective())
    for cell in grid:
        found.add_cell(cell, planned_samples=SAMPLES, calibration=False)
    return found


def infos(grid: Sequence[Cell]) -> dict[str, TrialInfo]:
    return {
        cell.fingerprint: TrialInfo(
            fingerprint=cell.fingerprint,
            name=cell.name,
            axes=cell.axes,
            config=cell.config,
            derived=derive(cell.config.train, SAMPLES),
            calibration=False,
        )
        for cell in grid
    }


def proposer(ledger: Ledger, grid: Sequence[Cell]) -> Proposer:
    return Proposer(ledger, infos(grid), OrderConfig(), [cell.fingerprint for cell in grid[:3]], maximize=False)


def report(ledger: Ledger, fingerprint: str, loss: float, *, train_s: float = 1.0) -> None:
    measurement = Measurement(
        milestone=1,
        samples_seen=SAMPLES // 8,
        tokens_seen=SAMPLES,
        step=1,
        warmup_done=True,
        train_loss=loss,
        grad_norm=loss,
        scores={"heldout_loss": loss},
        train_s=train_s,
        eval_s=0.0,
        peak_memory_bytes=1,
        is_last=False,
    )
    ledger.record(fingerprint, measurement)


def test_a_proposer_that_has_seen_the_sweep_chooses_as_one_that_reads_it_anew(
    ledger: Ledger, grid: tuple[Cell, ...]
) -> None:
    draw, propose = random.Random(0), proposer(ledger, grid)
    handed_out = []
    while (trial := propose()) is not None:
        fresh = proposer(ledger, grid)()
        assert fresh is not None
        assert fresh.fingerprint == trial.fingerprint
        handed_out.append(trial.fingerprint)
        ledger.start(trial.fingerprint)
        if draw.random() < 0.9:
            report(ledger, trial.fingerprint, draw.random())
        fate = draw.choice(["complete", "complete", "pruned", "failed", "brought back", "another is ended"])
        if fate == "complete":
            ledger.finish(trial.fingerprint, TrialState.COMPLETE, objective=draw.random())
        elif fate == "failed":
            ledger.finish(trial.fingerprint, TrialState.FAIL, cause=FailCause.CRASH)
        else:
            ledger.finish(trial.fingerprint, TrialState.PRUNED)
        once = [cell.fingerprint for cell in ledger.cells() if handed_out.count(cell.fingerprint) == 1]
        pruned = [key for key in once if key != handed_out[-1] and ledger.cell(key).state is TrialState.PRUNED]
        if fate == "brought back" and pruned:
            ledger.revive(draw.choice(pruned))
        waiting = [cell.fingerprint for cell in ledger.cells() if cell.state is TrialState.WAITING]
        if fate == "another is ended" and waiting:
            ledger.dismiss(draw.choice(waiting), prune("user", "ended by the user", 0))
    assert all(cell.state.is_final for cell in ledger.cells())
    assert max(map(handed_out.count, handed_out)) == 2, "what was brought back runs again, all others once"


def test_a_choice_reads_the_cells_that_changed_and_no_other(ledger: Ledger, grid: tuple[Cell, ...]) -> None:
    propose = proposer(ledger, grid)
    for _ in grid:
        before = ledger.read
        trial = propose()
        assert trial is not None
        assert ledger.read - before <= 1, "of 24 cells one has changed"
        ledger.start(trial.fingerprint)
        ledger.finish(trial.fingerprint, TrialState.COMPLETE, objective=1.0)
    assert propose() is None


def test_a_measurement_of_a_running_trial_changes_its_cell_for_the_next_choice(
    ledger: Ledger, grid: tuple[Cell, ...]
) -> None:
    running = grid[5].fingerprint
    ledger.start(running)
    ledger.changed()
    report(ledger, running, 2.0)
    assert [(cell.fingerprint, cell.objective) for cell in ledger.changed()] == [(running, 2.0)]
    assert ledger.changed() == ()


@pytest.fixture
def mixed() -> tuple[Cell, ...]:
    axes = {"ranks": [1, 4], "learning_rate": [1e-5, 1e-4, 1e-3]}
    plain = {"model": {"path": "m"}, "data": {"train": ["t"], "test": {"new": "n"}}, "grid": axes}
    return expand(decode(SearchSpace, {"sweep": "mixed", "train": {"batch_size": 16}, **plain}))


def mixed_proposer(cells: Sequence[Cell]) -> tuple[Proposer, Ledger, dict[str, str]]:
    """Return also the fingerprints by name; one cell of four ranks is for calibration."""
    ledger = Ledger(optuna.create_study(), Objective())
    for cell in cells:
        ledger.add_cell(cell, planned_samples=SAMPLES, calibration=False)
    keys = {cell.name: cell.fingerprint for cell in cells}
    return Proposer(ledger, infos(cells), OrderConfig(), [keys["ranks=4-lr1e-4"]], maximize=False), ledger, keys


def test_of_several_gang_sizes_calibration_comes_first_and_then_what_takes_longest(mixed: tuple[Cell, ...]) -> None:
    propose, ledger, keys = mixed_proposer(mixed)
    assert [each.ranks for each in propose.demands()] == [4, 1]
    assert handed_out(propose, ledger, 4) == "ranks=4-lr1e-4"
    assert [each.ranks for each in propose.demands()] == [1, 4], "a quarter of the ranks, four times as long"
    begun = keys[handed_out(propose, ledger, 1)]
    report(ledger, keys["ranks=4-lr1e-4"], 1.0)
    report(ledger, begun, 1.0, train_s=0.1)
    assert [each.ranks for each in propose.demands()] == [4, 1], "as measured"
    trial = propose._trials[keys["ranks=4-lr1e-4"]]
    assert propose.left_s(trial) == pytest.approx(7.0)


def handed_out(propose: Proposer, ledger: Ledger, ranks: int) -> str:
    trial = propose(ranks)
    assert isinstance(trial, TrialInfo)
    ledger.start(trial.fingerprint)
    return trial.name


def test_where_a_size_is_asked_for_the_others_wait_and_each_cell_is_handed_out_once(mixed: tuple[Cell, ...]) -> None:
    propose, ledger, keys = mixed_proposer(mixed)
    large = [handed_out(propose, ledger, 4) for _ in range(3)]
    assert propose(4) is LATER
    small = [handed_out(propose, ledger, 1) for _ in range(3)]
    assert {*large, *small} == set(keys)
    assert propose(1) is None


def test_what_was_interrupted_comes_before_calibration_in_its_size(mixed: tuple[Cell, ...]) -> None:
    _, ledger, keys = mixed_proposer(mixed)
    ledger.start(keys["ranks=1-lr1e-5"])
    again = Proposer(ledger, infos(mixed), OrderConfig(), [keys["ranks=4-lr1e-4"]], maximize=False)
    assert [each.ranks for each in again.demands()] == [1, 4]
    assert handed_out(again, ledger, 4) == "ranks=4-lr1e-4"
    assert handed_out(again, ledger, 1) == "ranks=1-lr1e-5"
    assert handed_out(again, ledger, 1) != "ranks=1-lr1e-5"
