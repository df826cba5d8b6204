"""Which cell runs next: a thin bridge from the study to the order of ``sweeper.core.order``, or to a local search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.core.lifecycle import TrialState
from sweeper.core.order import Order, Outcome, calibration_cells
from sweeper.core.record import TrialInfo
from sweeper.core.search import RULE, Later, LocalSearch, SearchConfig
from sweeper.core.sections import OrderConfig
from sweeper.core.space import Cell, SearchSpace
from sweeper.core.verdict import prune
from sweeper.judge import Judge

T = TypeVar("T")
_STARTED: Final = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


class Proposer:
    """Hands out every cell that has not ended exactly once: interrupted ones, what users asked for, the order's.

    Of the last, ``admits`` is asked about each; one that it turns down is ended by it and passed over.
    """

    def __init__(
        self,
        ledger: StudyLedger,
        trials: Mapping[str, TrialInfo],
        order: OrderConfig,
        calibration: Sequence[str],
        *,
        maximize: bool,
        admits: Callable[[TrialInfo], bool] = lambda trial: True,
    ) -> None:
        self._admits = admits
        self._ledger = ledger
        self._trials = trials
        ledger.changed()  # what was written up to now is read with all cells
        cells = ledger.cells()
        clones = {cell.fingerprint for cell in cells if cell.clone_of}
        axes = {fingerprint: trial.axes for fingerprint, trial in trials.items() if fingerprint not in clones}
        self._order = Order(axes, calibration=calibration, maximize=maximize, seed=order.seed)
        self._interrupted = [cell.fingerprint for cell in cells if cell.state is TrialState.RUNNING]
        self._wanted: dict[str, None] = {}
        self._waiting: dict[str, None] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._take_in(cells)

    def __call__(self) -> TrialInfo | Later | None:
        """Return the next trial, ``LATER`` where that depends on one that runs, or None when all are handed out."""
        self._take_in(self._ledger.changed())
        while self._interrupted:
            fingerprint = self._interrupted.pop(0)
            if self._ledger.cell(fingerprint).state is TrialState.RUNNING:  # its user may have ended it since
                return self._trials[fingerprint]
        if self._wanted:
            return self._trials[next(iter(self._wanted))]
        while isinstance(chosen := self._choose(), str):
            if self._admits(self._trials[chosen]):
                return self._trials[chosen]
            self._take_in(self._ledger.changed())
        return chosen

    def _choose(self) -> str | Later | None:
        return self._order.next(self._waiting, self._outcomes)

    def _take_in(self, cells: Iterable[CellRecord]) -> None:
        """Read cells that have changed; all others stand here as they were last read."""
        for cell in cells:
            is_waiting = cell.state is TrialState.WAITING
            _keep(self._wanted, cell.fingerprint, None, is_waiting and cell.is_wanted)
            if not cell.clone_of:
                outcome = Outcome(value=cell.objective, broke=cell.ended_by_guard)
                _keep(self._waiting, cell.fingerprint, None, is_waiting)
                _keep(self._outcomes, cell.fingerprint, outcome, cell.state in _STARTED)


class LocalProposer(Proposer):
    """Hands out the cells of a local search alone; once it has ended, so are the cells that it has not come to."""

    def __init__(
        self,
        ledger: StudyLedger,
        trials: Mapping[str, TrialInfo],
        order: OrderConfig,
        calibration: Sequence[str],
        *,
        maximize: bool,
        search: SearchConfig,
        judge: Judge,
    ) -> None:
        self._cells: dict[str, CellRecord] = {}
        self._judge = judge
        super().__init__(ledger, trials, order, calibration, maximize=maximize, admits=judge.admits)
        axes = {fingerprint: trials[fingerprint].axes for fingerprint in self._cells}
        self._search = LocalSearch(axes, start=search.start, maximize=maximize, budget=search.budget)

    def _take_in(self, cells: Iterable[CellRecord]) -> None:
        cells = tuple(cells)
        super()._take_in(cells)
        in_grid = (cell for cell in cells if not cell.clone_of and not cell.replicate_of)
        self._cells |= {cell.fingerprint: cell for cell in in_grid if cell.state is not TrialState.INFEASIBLE}

    def _choose(self) -> str | Later | None:
        waiting = [key for key in self._waiting if key in self._cells]
        if len(waiting) < len(self._waiting):  # leaders that run again with fresh seeds, their search being over
            return super()._choose()
        running = [key for key, cell in self._cells.items() if cell.state is TrialState.RUNNING]
        ended = {
            key: cell.objective if cell.state is TrialState.COMPLETE else None
            for key, cell in self._cells.items()
            if cell.state.is_final and cell.attempts
        }
        chosen = self._search.next(waiting, running, ended)
        if chosen is None:
            reason = self._search.reason(ended, lambda key: self._cells[key].name)
            for key in waiting:
                self._judge.dismiss(self._trials[key], prune(RULE, reason, 0))
        return chosen


def make_proposer(
    ledger: StudyLedger,
    trials: Mapping[str, TrialInfo],
    space: SearchSpace,
    calibration: Sequence[str],
    judge: Judge,
) -> Proposer:
    """Return who hands out the cells of a sweep, as its search space wants them searched."""
    maximize = space.objective.maximizes
    if space.search.is_local:
        return LocalProposer(
            ledger, trials, space.order, calibration, maximize=maximize, search=space.search, judge=judge
        )
    return Proposer(ledger, trials, space.order, calibration, maximize=maximize, admits=judge.admits)


def calibration_of(space: SearchSpace, cells: Sequence[Cell]) -> list[str]:
    """Return the fingerprints of the cells that only guards may end, in the order to run them.

    Spread over the whole grid; for local search, those that it tests first. ``cells``: all that can run.
    """
    axes = {cell.fingerprint: cell.axes for cell in cells}
    if space.search.is_local:
        return list(LocalSearch(axes, start=space.search.start).first[: space.calibration])
    chosen = calibration_cells(list(axes.values()), space.calibration, space.order.seed)
    return [cells[index].fingerprint for index in chosen]


def _keep(book: dict[str, T], key: str, value: T, belongs: bool) -> None:
    if belongs:
        book[key] = value
    else:
        book.pop(key, None)
