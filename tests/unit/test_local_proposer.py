"""Which cell is handed out next, on a real study and a real judge: local search, and what users ask for beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
import pytest

from sweeper.adapters.study import StudyLedger
from sweeper.core.decode import decode
from sweeper.core.derive import derive
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import TrialInfo
from sweeper.core.search import LATER, RULE
from sweeper.core.space import Cell, SearchSpace, expand
from sweeper.judge import Judge
from sweeper.proposer import calibration_of, make_proposer
from sweeper.pruners.compose import from_spec

SPACE = {
    "sweep": "searched",
    "model": {"path": "m"},
    "data": {"train": ["t"], "test": "n"},
    "search": "local",
    "grid": {"learning_rate": [1e-5, 1e-4, 1e-3, 1e-2], "batch_size": [8, 16, 32]},
}


class Sweep:
    """A sweep without Ray: trials are told what they end with."""

    def __init__(self, **changes: object) -> None:
        self.space = decode(SearchSpace, {**SPACE, **changes})
        self.cells = expand(self.space)
        self.storage = optuna.storages.InMemoryStorage()
        self.calibration = calibration_of(self.space, self.cells)
        self.reopen()
        for cell in self.cells:
            self.ledger.add_cell(cell, planned_samples=80, calibration=cell.fingerprint in self.calibration)
        self.reopen()

    def reopen(self) -> None:
        """Begin anew on the study alone, as ``resume`` does."""
        rule = from_spec(self.space.pruner, direction="minimize")
        self.ledger = StudyLedger.open(self.storage, "s", self.space.objective, pruner=rule, grid=self.space.grid)
        self.judge = Judge(self.space.objective, self.ledger, (), self)  # type: ignore[arg-type]
        infos = {cell.fingerprint: info(cell) for cell in self.cells}
        self.propose = make_proposer(self.ledger, infos, self.space, self.calibration, self.judge)

    def now_ms(self) -> int:
        return 0

    def begin(self) -> TrialInfo:
        trial = self.propose()
        assert isinstance(trial, TrialInfo)
        self.judge.begin(trial)
        return trial

    def end(self, trial: TrialInfo, loss: float) -> None:
        self.judge.observe(trial, measurement(loss))
        self.judge.conclude(trial)

    def run(self) -> list[str]:
        """Run every trial that is proposed, one at a time, and return their names."""
        names = []
        while isinstance(self.propose(), TrialInfo):
            trial = self.begin()
            names.append(trial.name)
            self.end(trial, abs(math.log10(trial.axes["learning_rate"]) + 4) + trial.axes["batch_size"] / 8)
        return names

    def states(self) -> dict[str, TrialState]:
        return {cell.name: cell.state for cell in self.ledger.cells()}


def info(cell: Cell) -> TrialInfo:
    return TrialInfo(
        fingerprint=cell.fingerprint,
        name=cell.name,
        axes=cell.axes,
        config=cell.config,
        derived=derive(cell.config.train, 80),
    )


def measurement(loss: float) -> Measurement:
    return Measurement(
        milestone=1,
        samples_seen=80,
        tokens_seen=800,
        step=1,
        warmup_done=True,
        train_loss=1.0,
        grad_norm=1.0,
        scores={"heldout_loss": loss},
        train_s=1.0,
        eval_s=0.0,
        peak_memory_bytes=1,
        is_last=True,
    )


def names(cells: Sequence[Cell], fingerprints: Sequence[str]) -> list[str]:
    by_fingerprint = {cell.fingerprint: cell.name for cell in cells}
    return [by_fingerprint[each] for each in fingerprints]


def test_local_search_runs_the_cells_on_its_way_and_ends_the_others_unstarted_with_the_reason():
    sweep = Sweep()
    ran = sweep.run()
    assert ran[:4] == ["lr1e-5-b32", "lr1e-4-b32", "lr1e-3-b32", "lr1e-4-b16"]
    assert len(ran) < 12
    for cell in sweep.ledger.cells():
        assert cell.state.is_final
        assert (cell.state is TrialState.COMPLETE) == (cell.name in ran)
        if cell.name not in ran:
            assert cell.verdict is not None
            assert (cell.verdict.rule, cell.attempts, cell.samples_seen) == (RULE, 0, 0)
            assert "local search ended at lr1e-4-b8" in cell.verdict.reason


def test_calibration_trials_are_the_first_that_the_search_tests():
    sweep = Sweep(order={"calibration": 3})
    assert names(sweep.cells, sweep.calibration) == ["lr1e-5-b32", "lr1e-4-b32", "lr1e-5-b16"]
    everything = Sweep(search="grid", order={"calibration": 3})
    assert names(everything.cells, everything.calibration)[0] != "lr1e-5-b32", "else spread over the grid"


def test_a_free_gang_waits_where_the_next_cell_depends_on_one_that_runs():
    sweep = Sweep()
    running = [sweep.begin() for _ in range(4)]  # the start and its three neighbours
    assert sweep.propose() is LATER
    assert TrialState.PRUNED not in sweep.states().values(), "nothing is given up meanwhile"
    sweep.end(running[1], 0.5)
    assert isinstance(sweep.propose(), TrialInfo)


def test_an_interrupted_search_goes_on_as_if_it_had_not_been():
    whole = Sweep().run()
    sweep = Sweep()
    first = sweep.begin()
    sweep.reopen()
    again = sweep.begin()
    assert again.fingerprint == first.fingerprint, "the trial that ran comes first"
    sweep.end(again, abs(math.log10(again.axes["learning_rate"]) + 4) + again.axes["batch_size"] / 8)
    sweep.reopen()
    assert [first.name, *sweep.run()] == whole


def test_the_budget_counts_what_was_started_before_an_interruption_too():
    sweep = Sweep(search={"method": "local", "budget": 3})
    sweep.end(sweep.begin(), 1.0)
    sweep.reopen()
    assert len(sweep.run()) == 2
    reasons = {cell.verdict.reason for cell in sweep.ledger.cells() if cell.verdict and cell.verdict.rule == RULE}
    assert len(reasons) == 1
    assert "the 3 cells of its budget" in reasons.pop()


def test_a_cell_that_the_search_passed_over_still_runs_if_its_user_asks_for_it():
    sweep = Sweep()
    sweep.run()
    unstarted = next(cell for cell in sweep.ledger.cells() if cell.state is TrialState.PRUNED)
    sweep.ledger.revive(unstarted.fingerprint)
    assert sweep.run() == [unstarted.name]
    assert all(state.is_final for state in sweep.states().values())


def test_a_sweep_of_the_whole_grid_starts_every_cell():
    assert sorted(Sweep(search="grid", pruner=[]).run()) == sorted(cell.name for cell in Sweep().cells)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_start_that_breaks_does_not_end_the_search(loss: float):
    sweep = Sweep()
    first = sweep.begin()
    sweep.judge.observe(first, measurement(loss))
    sweep.judge.conclude(first)
    assert sweep.run()[0] == "lr1e-4-b32"
