"""Which cell runs next: a thin bridge from the study to the order of ``sweeper.core.order``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sweeper.adapters.study import StudyLedger
from sweeper.core.lifecycle import TrialState
from sweeper.core.order import Order, Outcome
from sweeper.core.record import TrialInfo
from sweeper.core.space import OrderConfig


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
        cells = ledger.cells()
        clones = {cell.fingerprint for cell in cells if cell.clone_of}
        axes = {fingerprint: trial.axes for fingerprint, trial in trials.items() if fingerprint not in clones}
        self._order = Order(axes, calibration=calibration, maximize=maximize, seed=order.seed)
        self._interrupted = [cell.fingerprint for cell in cells if cell.state is TrialState.RUNNING]

    def __call__(self) -> TrialInfo | None:
        """Return the next trial, or None when every cell has been handed out."""
        while self._interrupted:
            fingerprint = self._interrupted.pop(0)
            if self._ledger.cell(fingerprint).state is TrialState.RUNNING:  # its user may have ended it since
                return self._trials[fingerprint]
        cells = self._ledger.cells()
        wanted = (cell.fingerprint for cell in cells if cell.state is TrialState.WAITING and cell.is_wanted)
        if (asked_for := next(wanted, None)) is not None:
            return self._trials[asked_for]
        while (chosen := self._next()) is not None:
            if self._admits(chosen):
                return chosen
        return None

    def _next(self) -> TrialInfo | None:
        cells = tuple(cell for cell in self._ledger.cells() if not cell.clone_of)
        waiting = [cell.fingerprint for cell in cells if cell.state is TrialState.WAITING]
        started = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        outcomes = {
            cell.fingerprint: Outcome(value=cell.objective, broke=cell.ended_by_guard)
            for cell in cells
            if cell.state in started
        }
        chosen = self._order.next(waiting, outcomes)
        return None if chosen is None else self._trials[chosen]
