"""Ray Tune's HyperBand on the simulated clock: a scheduler that pauses trials and promotes the better ones.

It cannot be asked at each report whether to stop, as the other rules are: a paused trial gives its worker away, and
whether it is ended or promoted is known when the last of its bracket has come as far. So the scheduler is run as Tune's
controller runs it. Pausing and promoting cost nothing here, which is in its favour.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any, Final

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler

from sweeper.replay.curves import Grid

MAX_T: Final = 81
"""The scheduler's default: the longest trial takes 81 units, so its brackets have at most 5, 8, 15, ... trials."""
MAX_PENDING: Final = 200
"""Trials of a grid search that Tune makes ahead by default. They fill the brackets: made one by one when a worker is
free, with fewer workers than the first bracket has places, all would land in that one, which ends nothing."""


@dataclass(eq=False)
class PausableTrial:
    """As much of a Tune trial as the scheduler looks at, and how far it has come."""

    index: int
    status: str = Trial.PENDING
    is_saving: bool = False
    place: int = 0
    """Its next point."""

    @property
    def trial_id(self) -> str:
        return str(self.index)


@dataclass(eq=False)
class _Sweep:
    """One replay in progress; stands in for Tune's controller, which the scheduler tells whom to stop."""

    grid: Grid
    scheduler: HyperBandScheduler
    arrival: list[int]
    events: list[tuple[int, int, PausableTrial]] = field(default_factory=list)
    trials: list[PausableTrial] = field(default_factory=list)
    now: int = 0
    scheduled: int = 0

    def stop_trial(self, trial: PausableTrial) -> None:
        """End a paused trial, as Tune's controller does."""
        self.scheduler.on_trial_remove(self, trial)
        trial.status = Trial.TERMINATED

    def run(self, workers: int) -> tuple[int | None, ...]:
        free = self.fill(workers)
        while self.events:
            self.now, _, trial = heapq.heappop(self.events)
            self.reported(trial)
            free = self.fill(free + (trial.status != Trial.RUNNING))
        reached: dict[int, int | None] = {trial.index: self.reached(trial) for trial in self.trials}
        return tuple(reached[index] for index in range(len(self.grid.trials)))

    def reached(self, trial: PausableTrial) -> int | None:
        points = self.grid.trials[trial.index].points
        return None if trial.place == len(points) else points[trial.place - 1].resource

    def fill(self, free: int) -> int:
        """Give free workers to whom the scheduler chooses, among trials made ahead as Tune does; return those left."""
        while free:
            while self.arrival and sum(trial.status == Trial.PENDING for trial in self.trials) < MAX_PENDING:
                self.trials.append(PausableTrial(self.arrival.pop(0)))
                self.scheduler.on_trial_add(self, self.trials[-1])
            chosen = self.scheduler.choose_trial_to_run(self)
            if chosen is None:
                break
            chosen.status = Trial.RUNNING
            self.schedule(chosen)
            free -= 1
        return free

    def schedule(self, trial: PausableTrial) -> None:
        points = self.grid.trials[trial.index].points
        before = points[trial.place - 1].resource if trial.place else 0
        heapq.heappush(self.events, (self.now + points[trial.place].resource - before, self.scheduled, trial))
        self.scheduled += 1

    def reported(self, trial: PausableTrial) -> None:
        points = self.grid.trials[trial.index].points
        point = points[trial.place]
        trial.place += 1
        result: dict[str, Any] = {"resource": point.resource * MAX_T / longest(self.grid), **point.signals}
        if trial.place == len(points):
            trial.status = Trial.TERMINATED
            self.scheduler.on_trial_complete(self, trial, result)
            return
        if "objective" not in result:
            self.schedule(trial)
            return
        action = self.scheduler.on_trial_result(self, trial, result)
        if action == TrialScheduler.CONTINUE:
            self.schedule(trial)
        else:
            trial.status = Trial.PAUSED if action == TrialScheduler.PAUSE else Trial.TERMINATED


def longest(grid: Grid) -> int:
    return max(trial.cost for trial in grid.trials)


def ray_hyperband(grid: Grid, workers: int, seed: int) -> tuple[int | None, ...]:
    """Return where HyperBand ends each trial, None where it runs to its end; trials arrive in random order."""
    arrival = list(range(len(grid.trials)))
    random.Random(seed).shuffle(arrival)
    scheduler = HyperBandScheduler(time_attr="resource", metric="objective", mode=grid.direction[:3], max_t=MAX_T)
    return _Sweep(grid, scheduler, arrival).run(workers)
