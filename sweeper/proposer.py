"""Which cell runs next: a thin bridge from the study to the order of ``sweeper.core.order``, or to a local search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.core.backfill import Demand
from sweeper.core.lifecycle import TrialState
from sweeper.core.longest_first import Durations, Waiting, longest_first
from sweeper.core.order import Order, Outcome, calibration_cells
from sweeper.core.record import TrialInfo
from sweeper.core.search import LATER, RULE, Later, LocalSearch, SearchConfig
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
        self._calibration = frozenset(calibration)
        self._durations = Durations()
        self._wanted: dict[str, None] = {}
        self._waiting: dict[str, None] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._take_in(cells)

    def __call__(self, ranks: int | None = None) -> TrialInfo | Later | None:
        """Return the next trial, of a gang of so many ranks where that is said.

        ``LATER`` where that depends on one that runs or there is none of this size; None when all are handed out.
        """
        chosen = self._pick(ranks)
        return LATER if chosen is None and ranks is not None and self.demands() else chosen

    def demands(self) -> list[Demand]:
        """Return the gang sizes of what waits, the one that is wanted first at the front.

        What was interrupted or asked for comes first, then calibration, then the rest; of each the longest first.
        """
        self._take_in(self._ledger.changed())
        self._forget_ended()
        first = dict.fromkeys([*self._interrupted, *self._wanted], 0)
        turns = {key: 1 if key in self._calibration else 2 for key in self._candidates()} | first
        return longest_first((self._in_line(key, turn) for key, turn in turns.items()), self._durations)

    def left_s(self, trial: TrialInfo) -> float:
        """Return how long a trial that was handed out is expected to go on."""
        left = trial.derived.planned_samples - self._ledger.cell(trial.fingerprint).samples_seen
        return self._durations.expected_s(trial.config.train.ranks, max(left, 0))

    def _pick(self, ranks: int | None) -> TrialInfo | Later | None:
        self._take_in(self._ledger.changed())
        self._forget_ended()
        if first := self._of_size([*self._interrupted, *self._wanted], ranks):
            self._interrupted = [key for key in self._interrupted if key != first[0]]
            return self._trials[first[0]]
        while isinstance(chosen := self._choose(ranks), str):
            if self._admits(self._trials[chosen]):
                return self._trials[chosen]
            self._take_in(self._ledger.changed())
        return chosen

    def _choose(self, ranks: int | None) -> str | Later | None:
        waiting = self._waiting if ranks is None else self._of_size(self._waiting, ranks)
        return self._order.next(waiting, self._outcomes)

    def _candidates(self) -> Collection[str]:
        """Return what may be chosen."""
        return self._waiting

    def _in_line(self, key: str, turn: int) -> Waiting:
        trial = self._trials[key]
        return Waiting(turn=turn, ranks=trial.config.train.ranks, samples=trial.derived.planned_samples)

    def _of_size(self, keys: Iterable[str], ranks: int | None) -> list[str]:
        return [key for key in keys if ranks in (None, self._trials[key].config.train.ranks)]

    def _forget_ended(self) -> None:
        """Their user may have ended interrupted trials since."""
        self._interrupted = [k for k in self._interrupted if self._ledger.cell(k).state is TrialState.RUNNING]

    def _take_in(self, cells: Iterable[CellRecord]) -> None:
        """Read cells that have changed; all others stand here as they were last read."""
        for cell in cells:
            is_waiting = cell.state is TrialState.WAITING
            _keep(self._wanted, cell.fingerprint, None, is_waiting and cell.is_wanted)
            if cell.samples_seen and cell.fingerprint in self._trials:
                ranks = self._trials[cell.fingerprint].config.train.ranks
                self._durations.measured(cell.fingerprint, ranks, cell.samples_seen, cell.train_s + cell.eval_s)
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

    def _choose(self, ranks: int | None) -> str | Later | None:
        if self._is_over:
            return super()._choose(ranks)
        chosen = self._next()
        if chosen is None:
            reason = self._search.reason(self._ended, lambda key: self._cells[key].name)
            for key in self._waiting:
                self._judge.dismiss(self._trials[key], prune(RULE, reason, 0))
        return LATER if isinstance(chosen, str) and not self._of_size([chosen], ranks) else chosen

    def _candidates(self) -> Collection[str]:
        if self._is_over:
            return super()._candidates()
        chosen = self._next()
        return [chosen] if isinstance(chosen, str) else []

    def _next(self) -> str | Later | None:
        running = [key for key, cell in self._cells.items() if cell.state is TrialState.RUNNING]
        return self._search.next(list(self._waiting), running, self._ended)

    @property
    def _ended(self) -> dict[str, float | None]:
        return {
            key: cell.objective if cell.state is TrialState.COMPLETE else None
            for key, cell in self._cells.items()
            if cell.state.is_final and cell.attempts
        }

    @property
    def _is_over(self) -> bool:
        """Whether leaders run again with fresh seeds."""
        return not self._cells.keys() >= self._waiting.keys()


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
