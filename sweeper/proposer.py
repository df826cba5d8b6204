"""Which cell runs next: a thin bridge from the study to the order of ``sweeper.core.order``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.core.lifecycle import TrialState
from sweeper.core.order import Order, Outcome
from sweeper.core.record import TrialInfo
from sweeper.core.space import OrderConfig

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

    def __call__(self) -> TrialInfo | None:
        """Return the next trial, or None when every cell has been handed out."""
        self._take_in(self._ledger.changed())
        while self._interrupted:
            fingerprint = self._interrupted.pop(0)
            if self._ledger.cell(fingerprint).state is TrialState.RUNNING:  # its user may have ended it since
                return self._trials[fingerprint]
        if self._wanted:
            return self._trials[next(iter(self._wanted))]
        while (chosen := self._order.next(self._waiting, self._outcomes)) is not None:
            if self._admits(self._trials[chosen]):
                return self._trials[chosen]
            self._take_in(self._ledger.changed())
        return None

    def _take_in(self, cells: Iterable[CellRecord]) -> None:
        """Read cells that have changed; all others stand here as they were last read."""
        for cell in cells:
            is_waiting = cell.state is TrialState.WAITING
            _keep(self._wanted, cell.fingerprint, None, is_waiting and cell.is_wanted)
            if not cell.clone_of:
                outcome = Outcome(value=cell.objective, broke=cell.ended_by_guard)
                _keep(self._waiting, cell.fingerprint, None, is_waiting)
                _keep(self._outcomes, cell.fingerprint, outcome, cell.state in _STARTED)


def _keep(book: dict[str, T], key: str, value: T, belongs: bool) -> None:
    if belongs:
        book[key] = value
    else:
        book.pop(key, None)
