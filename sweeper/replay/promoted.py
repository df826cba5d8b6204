"""A simulated sweep whose trials are paused at rungs and promoted, saving and restoring being paid for.

What a worker spends on a save, a restore or a second run of what was not saved counts as resource like training.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from optuna.pruners import BasePruner

from sweeper.core.errors import InputError
from sweeper.core.promote import FIRST_SHARE, Promotion, Rungs, Standing, keeps_state
from sweeper.core.promoter import Promoter
from sweeper.core.verdict import Verdict
from sweeper.pruners.compose import GUARDS
from sweeper.pruners.standing import standing_of
from sweeper.replay.curves import Grid
from sweeper.replay.simulated import SimulatedSweep, Start


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseCosts:
    """What pausing costs, as shares of a milestone's training: of the grid's mean distance between two reports."""

    save: float = 0.0
    restore: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("save", self.save), ("restore", self.restore)):
            if not 0 <= value < math.inf:
                raise InputError("must be at least 0", where=name, got=value)


class PromotedSweep(SimulatedSweep):
    """One replay in progress with pause and promotion.

    A worker that is free starts a waiting cell, else goes on with the most promising paused trial that its pruner does
    not condemn now. A trial that is still the most promising one at its rung simply goes on, and nothing is paid.
    """

    def __init__(
        self, grid: Grid, pruner: BasePruner, *, seed: int, costs: PauseCosts, start: Start = "random"
    ) -> None:
        super().__init__(grid, pruner, seed=seed, calibration=0, order="random")
        reports = sum(len(trial.points) for trial in grid.trials)
        milestone = sum(trial.cost for trial in grid.trials) / reports
        self._save, self._restore = costs.save * milestone, costs.restore * milestone
        # Where trials end early by a rule of their own, nobody knows how long they last, but everybody how long about.
        usual = grid.planned or statistics.median(trial.cost for trial in grid.trials)
        self._rungs = Rungs(max(FIRST_SHARE * usual, max(trial.points[0].resource for trial in grid.trials)))
        self._promoter = Promoter(
            Promotion(dict(enumerate(self._axes)), maximize=grid.direction == "maximize", seed=seed, start=start),
            self._rungs,
            look_at=self._look_at,
            reconsider=lambda index: self._judge.reconsider(self._infos[index]),
            end=lambda index, verdict: self._end(index, self._samples(index), verdict),
        )
        self._places: dict[int, int] = {}
        """Last report of each started trial."""
        self._is_kept: dict[int, bool] = {}
        """Whether the state of each trial that rests or has rested was kept, by trial."""

    def _go_on(self, index: int, place: int, samples_seen: int) -> None:
        self._places[index] = place
        if not self._promoter.measured(index, samples_seen):
            super()._go_on(index, place, samples_seen)
            return
        self._busy -= 1
        self._is_kept[index] = keeps_state(samples_seen, self._save, self._restore)
        self._promoter.rests(index)
        self._start_next(just_paused=index)

    def _end(self, index: int, samples_seen: int, verdict: Verdict) -> None:
        super()._end(index, samples_seen, verdict)
        self._promoter.ended(index, broke=verdict.prunes and verdict.rule in GUARDS)

    def _start_next(self, just_paused: int | None = None) -> None:
        """Give a free worker something to do; ``just_paused`` is the trial whose state it still holds."""
        index = next((each for each in list(self._waiting) if self._begin(each)), None)
        begins = index is not None
        if index is None:
            index = self._promoter.next()
        if index is None:
            return
        if begins:
            self._places[index] = -1
        done = self._samples(index)
        delay = 0.0
        if index != just_paused:
            if just_paused is not None and self._is_kept[just_paused]:
                delay += self._save
            if not begins:
                delay += self._restore if self._is_kept[index] else done
        self._promoter.runs(index, done)
        self._busy += 1
        self._schedule(index, self._places[index] + 1, after=done - delay)

    def _samples(self, index: int) -> int:
        place = self._places[index]
        return 0 if place < 0 else self._grid.trials[index].points[place].resource

    def _look_at(self, index: int, *, runs: bool, broke: bool) -> Standing:
        trial = self._ledger.trial(str(index))
        return standing_of(self._ledger.study, trial, self._rungs.first, runs=runs, broke=broke)
