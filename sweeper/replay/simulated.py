"""The simulated clock: real judge, real order, real pruners, recorded trials, each run without a break.

Any number of workers; a trial's duration is proportional to its resource. Events are taken in the order of simulated
time, ties in the order in which they were scheduled, so a replay is the same each time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from optuna.pruners import BasePruner

from sweeper.core.objective import Objective
from sweeper.core.order import Coordinates, Order, Outcome, calibration_cells
from sweeper.core.promoter import arrival
from sweeper.core.search import LATER, RULE, LocalSearch, SearchConfig
from sweeper.core.verdict import Verdict, prune
from sweeper.judge import Judge
from sweeper.pruners.compose import GUARDS
from sweeper.replay.curves import Grid
from sweeper.replay.ledger import OBJECTIVE, ReplayLedger, measurement_of, trial_info

Arrival = Literal["promising", "random"]
Start = Literal["centre", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How one replayed sweep ended."""

    stopped_at: tuple[int | None, ...]
    """Resource at which each trial was ended, 0 where it was never started; None where it ran to its end."""
    verdicts: tuple[Verdict | None, ...]
    """The verdict that ended each trial, None where it ran to its end."""
    spent: float
    """Resource that the whole sweep cost, saving and restoring included."""
    completed_at: tuple[float | None, ...]
    """What the sweep had cost when each trial ran to its end; None where it did not."""


class _Clock:
    """Simulated time in units of the resource."""

    now = 0.0

    def now_ms(self) -> int:
        return round(self.now)


class SimulatedSweep:
    """One replay in progress, each trial run without a break until it ends."""

    def __init__(
        self,
        grid: Grid,
        pruner: BasePruner,
        *,
        seed: int,
        calibration: int,
        order: Arrival,
        start: Start = "random",
        search: SearchConfig | None = None,
    ) -> None:
        self._grid = grid
        self._axes = grid.axes()
        self._search = _local_search(grid, self._axes, search)
        chosen = calibration_cells(self._axes, calibration, seed, start=start) if order == "promising" else []
        if self._search is not None:
            chosen = list(self._search.first[:calibration])
        self._ledger = ReplayLedger(grid, pruner, frozenset(chosen))
        self._clock = _Clock()
        objective = Objective(metric=OBJECTIVE, direction=grid.direction)
        self._judge = Judge(objective, self._ledger, (), self._clock)
        self._infos = [
            trial_info(grid, index, axes, calibration=index in chosen) for index, axes in enumerate(self._axes)
        ]
        self._waiting = dict.fromkeys(arrival(len(grid.trials), seed))
        maximize = grid.direction == "maximize"
        cells = dict(enumerate(self._axes))
        self._order = Order(cells, calibration=chosen, maximize=maximize, seed=seed) if order == "promising" else None
        self._outcomes: dict[int, Outcome] = {}
        self._running: set[int] = set()
        self._finals: dict[int, float | None] = {}
        """Of each trial that was started and has ended, None where it was ended early."""
        self._events: list[tuple[float, int, int, int]] = []
        self._scheduled = 0
        self._busy = 0
        self._spent = 0.0
        self._stopped_at: list[int | None] = [None] * len(grid.trials)
        self._verdicts: list[Verdict | None] = [None] * len(grid.trials)
        self._completed_at: list[float | None] = [None] * len(grid.trials)

    def run(self, workers: int) -> Ending:
        """Play every event and return where each trial ended."""
        self._start_all(workers)
        while self._events:
            now, _, index, place = heapq.heappop(self._events)
            self._spent += self._busy * (now - self._clock.now)
            self._clock.now = now
            measurement = measurement_of(self._grid, index, place)
            verdict = self._judge.observe(self._infos[index], measurement)
            self._note(index, measurement.scores.get(OBJECTIVE), broke=verdict.prunes and verdict.rule in GUARDS)
            if verdict.prunes or measurement.is_last:
                self._end(index, measurement.samples_seen, verdict)
                self._busy -= 1
                self._start_all(workers)
            else:
                self._go_on(index, place, measurement.samples_seen)
        self._pass_over()
        return Ending(
            stopped_at=tuple(self._stopped_at),
            verdicts=tuple(self._verdicts),
            spent=self._spent,
            completed_at=tuple(self._completed_at),
        )

    def _end(self, index: int, samples_seen: int, verdict: Verdict) -> None:
        if verdict.prunes:
            self._stopped_at[index], self._verdicts[index] = samples_seen, verdict
        else:
            self._note(index, self._grid.trials[index].final, broke=False)
            self._completed_at[index] = self._spent
        self._running.discard(index)
        self._finals[index] = None if verdict.prunes else self._grid.trials[index].final
        self._judge.conclude(self._infos[index])

    def _go_on(self, index: int, place: int, samples_seen: int) -> None:
        """Take a trial on past a report that did not end it."""
        self._schedule(index, place + 1, after=samples_seen)

    def _note(self, index: int, value: float | None, *, broke: bool) -> None:
        if value is not None or broke:
            self._outcomes[index] = Outcome(value=value, broke=broke)

    def _start_all(self, workers: int) -> None:
        """Give every free worker something to do; those of a local search may have waited for what has ended now."""
        for _ in range(workers - self._busy):
            self._start_next()

    def _start_next(self) -> None:
        """Give a free worker something to do."""
        while (index := self._propose()) is not None:
            if self._begin(index):
                self._busy += 1
                self._schedule(index, 0, after=0)
                return

    def _begin(self, index: int) -> bool:
        """Return whether this waiting cell begins now; one that its pruner turns down is ended here."""
        del self._waiting[index]
        if self._judge.admits(self._infos[index]):
            self._judge.begin(self._infos[index])
            self._running.add(index)
            return True
        self._stopped_at[index], self._verdicts[index] = 0, self._ledger.verdict_at(str(index), 0)
        return False

    def _pass_over(self) -> None:
        """End what a local search has not come to."""
        if self._search is not None:
            reason = self._search.reason(self._finals, lambda index: self._grid.trials[index].name)
            for index in self._waiting:
                self._stopped_at[index], self._verdicts[index] = 0, prune(RULE, reason, 0)

    def _propose(self) -> int | None:
        if self._search is not None:
            found = self._search.next(self._waiting, self._running, self._finals)
            return None if found is LATER else found
        if self._order is None:
            return next(iter(self._waiting), None)
        return self._order.next(self._waiting, self._outcomes)

    def _schedule(self, index: int, place: int, *, after: float) -> None:
        lasts = self._grid.trials[index].points[place].resource - after
        heapq.heappush(self._events, (self._clock.now + lasts, self._scheduled, index, place))
        self._scheduled += 1


def _local_search(grid: Grid, axes: Sequence[Coordinates], search: SearchConfig | None) -> LocalSearch[int] | None:
    if search is None or not search.is_local:
        return None
    cells, maximize = dict(enumerate(axes)), grid.direction == "maximize"
    return LocalSearch(cells, start=search.start, maximize=maximize, budget=search.budget)
