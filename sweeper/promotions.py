"""Mode ``promote`` of a live sweep: which trial a free gang takes up, and which one gives its gang away at a rung."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.core.backfill import Demand
from sweeper.core.lifecycle import TrialState
from sweeper.core.longest_first import longest_first
from sweeper.core.milestones import Milestones
from sweeper.core.promote import FIRST_SHARE, Promotion, Rungs, Standing
from sweeper.core.promoter import Promoter, arrival
from sweeper.core.record import TrialInfo
from sweeper.core.search import Later
from sweeper.core.space import SearchSpace
from sweeper.core.verdict import Verdict
from sweeper.judge import Judge
from sweeper.proposer import Proposer
from sweeper.pruners.standing import standing_of


class Promotions(Proposer):
    """Hands out what a ``Proposer`` does, its waiting cells in an order drawn by the seed; then the paused trials.

    Clones, trials that their user brought back and runs with fresh seeds train to their end without a pause.
    """

    def __init__(
        self,
        ledger: StudyLedger,
        trials: Mapping[str, TrialInfo],
        space: SearchSpace,
        unpruned: Sequence[str],
        judge: Judge,
        milestones: Mapping[str, Milestones],
    ) -> None:
        """Take up a sweep where its study stands; ``unpruned``: runs with fresh seeds, by fingerprint."""
        maximize = space.objective.maximizes
        self._final: set[str] = set()
        super().__init__(ledger, trials, space.order, unpruned, maximize=maximize, admits=judge.admits)
        self._judge = judge
        cells = [cell for cell in ledger.cells() if cell.fingerprint in trials]
        grid = [cell for cell in cells if not cell.clone_of and not cell.replicate_of]
        self._pausable = {cell.fingerprint for cell in grid if not cell.is_wanted}
        places = arrival(len(grid), space.order.seed)
        self._arrival = [grid[place].fingerprint for place in places] + list(unpruned)
        self._first = first_rung([trials[cell.fingerprint] for cell in grid], milestones)
        self._promoter: Promoter[str] = Promoter(
            Promotion({cell.fingerprint: cell.axes for cell in grid}, maximize=maximize, seed=space.order.seed),
            Rungs(self._first),
            look_at=self._look_at,
            reconsider=lambda key: judge.reconsider(trials[key]),
            end=self._condemn,
        )
        self._samples = {cell.fingerprint: cell.samples_seen for cell in grid}
        self._reserved: list[str] = []
        """What a gang that is given away takes up next."""
        self._recall(grid)

    def __call__(self, ranks: int | None = None) -> TrialInfo | Later | None:
        self._forget_ended()
        if reserved := self._of_size(self._reserved, ranks):
            self._reserved.remove(reserved[0])
            return self._trials[reserved[0]]
        return super().__call__(ranks)

    def demands(self) -> list[Demand]:
        """Return the gang sizes of what waits or rests, in the order in which they would be taken up by free gangs."""
        self._take_in(self._ledger.changed())
        self._forget_ended()
        first = [*self._reserved, *self._interrupted, *self._wanted]
        keys = dict.fromkeys([*first, *(key for key in self._arrival if key in self._waiting), *self.promise()])
        sizes = dict.fromkeys(self._trials[key].config.train.ranks for key in keys)
        longest = {each.ranks: each for each in longest_first((self._in_line(key, 0) for key in keys), self._durations)}
        return [longest[ranks] for ranks in sizes]

    def goes_on(self, trial: TrialInfo, samples_seen: int) -> bool:
        """Return whether a trial that was just judged keeps its gang; where not, it is to be paused now."""
        key = trial.fingerprint
        if key not in self._pausable or samples_seen <= self._samples[key]:
            return True  # a trial that is trained again is not judged again
        self._samples[key] = samples_seen
        if not self._promoter.measured(key, samples_seen):
            return True
        self._promoter.rests(key)
        chosen = self._pick()
        if chosen is None or chosen.fingerprint == key:
            self._promoter.runs(key, samples_seen)
            return True
        self._reserved.append(chosen.fingerprint)
        self._wanted.pop(chosen.fingerprint, None)
        self._waiting.pop(chosen.fingerprint, None)
        return False

    def paused(self, trial: TrialInfo) -> None:
        """A trial has given its gang away; to be called before ``__call__`` hands out the next one."""
        self._judge.pause(trial, asked_after=self._promoter.asked_after(trial.fingerprint))

    def ended(self, trial: TrialInfo) -> None:
        """A trial that was handed out has ended."""
        if trial.fingerprint in self._pausable:
            cell = self._ledger.cell(trial.fingerprint)
            if cell.state is TrialState.FAIL:
                self._promoter.failed(cell.fingerprint)
            else:
                self._promoter.ended(cell.fingerprint, broke=cell.ended_by_guard)

    def promise(self) -> list[str]:
        """Return the fingerprints of the paused trials, the most promising one first."""
        return self._promoter.promise()

    @property
    def unended(self) -> frozenset[str]:
        """The fingerprints of all trials that run or rest and may be paused."""
        return self._promoter.unended & self._pausable

    def _pick(self, ranks: int | None = None) -> TrialInfo | None:
        """Return what a gang takes up now, one of so many ranks where that is said, and count it as running."""
        self._take_in(self._ledger.changed())
        for key in self._final & self._promoter.unended:
            self.ended(self._trials[key])  # by its user, while it ran or rested
        found = super()._pick(ranks)
        chosen: str | None = found.fingerprint if isinstance(found, TrialInfo) else self._next_paused(ranks)
        if chosen is None:
            return None
        if self._ledger.cell(chosen).is_wanted:
            self._pausable.discard(chosen)  # its user has brought it back
        if chosen in self._pausable:
            self._promoter.runs(chosen, self._samples[chosen])
        return self._trials[chosen]

    def _next_paused(self, ranks: int | None) -> str | None:
        return self._promoter.next(lambda key: bool(self._of_size([key], ranks)))

    def _choose(self, ranks: int | None) -> str | None:
        return next((key for key in self._of_size(self._arrival, ranks) if key in self._waiting), None)

    def _forget_ended(self) -> None:
        super()._forget_ended()
        self._reserved = [key for key in self._reserved if not self._ledger.cell(key).state.is_final]

    def _take_in(self, cells: Iterable[CellRecord]) -> None:
        cells = tuple(cells)
        super()._take_in(cells)
        self._final |= {cell.fingerprint for cell in cells if cell.state.is_final}

    def _condemn(self, key: str, verdict: Verdict) -> None:
        self._judge.conclude(self._trials[key])
        self.ended(self._trials[key])

    def _look_at(self, key: str, /, *, runs: bool, broke: bool) -> Standing:
        return standing_of(self._ledger.study, self._ledger.trial(key), self._first, runs=runs, broke=broke)

    def _recall(self, grid: Sequence[CellRecord]) -> None:
        """Tell the promoter what an earlier process has seen."""
        for cell in grid:
            if cell.state in (TrialState.COMPLETE, TrialState.PRUNED) and cell.samples_seen:
                self._promoter.ended(cell.fingerprint, broke=cell.ended_by_guard)
        for key, asked_after in self._ledger.paused().items():
            latest = self._ledger.latest(key)
            if key in self._pausable and latest is not None:
                self._judge.recall(self._trials[key], *latest)
                self._promoter.rests(key, asked_after=asked_after)


def first_rung(trials: Sequence[TrialInfo], milestones: Mapping[str, Milestones]) -> float:
    """Return the first rung of a sweep: a share of a usual training, at or past every trial's first measurement."""
    usual = statistics.median(trial.derived.planned_samples for trial in trials)
    batches = ((trial.config.train.batch_size, milestones[trial.fingerprint].samples[0]) for trial in trials)
    return max(FIRST_SHARE * usual, *(batch * math.ceil(first / batch) for batch, first in batches))
