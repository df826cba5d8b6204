"""A sweep on a simulated clock: real judge, real order, real pruners, recorded trials.

Any number of workers; a trial's duration is proportional to its resource. Events are taken in the order of simulated
time, ties in the order in which they were scheduled, so a replay is the same each time.
"""

from __future__ import annotations

import gc
import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from optuna.pruners import BasePruner

from sweeper.core.order import Order, Outcome, calibration_cells
from sweeper.core.space import Objective
from sweeper.core.verdict import Verdict
from sweeper.judge import Judge
from sweeper.pruners.compose import GUARDS
from sweeper.replay.curves import Grid
from sweeper.replay.ledger import OBJECTIVE, ReplayLedger, measurement_of, trial_info
from sweeper.replay.score import Score, average

Arrival = Literal["promising", "random"]
MakePruner = Callable[[str], BasePruner]
"""Returns a fresh pruner for a direction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How one replayed sweep ended."""

    stopped_at: tuple[int | None, ...]
    """Resource at which each trial was ended, 0 where it was never started; None where it ran to its end."""
    verdicts: tuple[Verdict | None, ...]
    """The verdict that ended each trial, None where it ran to its end."""


class _Clock:
    """Simulated time in units of the resource."""

    now = 0

    def now_ms(self) -> int:
        return self.now


class _Sweep:
    """One replay in progress."""

    def __init__(self, grid: Grid, pruner: BasePruner, *, seed: int, calibration: int, order: Arrival) -> None:
        self._grid = grid
        self._axes = grid.axes()
        chosen = calibration_cells(self._axes, calibration, seed, start="random") if order == "promising" else []
        self._ledger = ReplayLedger(grid, pruner, frozenset(chosen))
        self._clock = _Clock()
        objective = Objective(metric=OBJECTIVE, direction=grid.direction)
        self._judge = Judge(objective, self._ledger, (), self._clock)
        self._infos = [
            trial_info(grid, index, axes, calibration=index in chosen) for index, axes in enumerate(self._axes)
        ]
        arrival = list(range(len(grid.trials)))
        random.Random(seed).shuffle(arrival)
        self._waiting = dict.fromkeys(arrival)
        maximize = grid.direction == "maximize"
        cells = dict(enumerate(self._axes))
        self._order = Order(cells, calibration=chosen, maximize=maximize, seed=seed) if order == "promising" else None
        self._outcomes: dict[int, Outcome] = {}
        self._events: list[tuple[int, int, int, int]] = []
        self._stops: list[int | None] = [None] * len(grid.trials)
        self._verdicts: list[Verdict | None] = [None] * len(grid.trials)
        self._scheduled = 0

    def run(self, workers: int) -> Ending:
        """Play every event and return where each trial ended."""
        for _ in range(workers):
            self._start_next()
        while self._events:
            self._clock.now, _, index, place = heapq.heappop(self._events)
            measurement = measurement_of(self._grid, index, place)
            verdict = self._judge.observe(self._infos[index], measurement)
            self._note(index, measurement.scores.get(OBJECTIVE), broke=verdict.prunes and verdict.rule in GUARDS)
            if verdict.prunes or measurement.is_last:
                if verdict.prunes:
                    self._stops[index], self._verdicts[index] = measurement.samples_seen, verdict
                elif measurement.is_last:
                    self._note(index, self._grid.trials[index].final, broke=False)
                self._judge.conclude(self._infos[index])
                self._start_next()
            else:
                self._schedule(index, place + 1, after=measurement.samples_seen)
        return Ending(stopped_at=tuple(self._stops), verdicts=tuple(self._verdicts))

    def _note(self, index: int, value: float | None, *, broke: bool) -> None:
        if value is not None or broke:
            self._outcomes[index] = Outcome(value=value, broke=broke)

    def _start_next(self) -> None:
        while (index := self._propose()) is not None:
            del self._waiting[index]
            if self._judge.admits(self._infos[index]):
                self._judge.begin(self._infos[index])
                self._schedule(index, 0, after=0)
                return
            self._stops[index], self._verdicts[index] = 0, self._ledger.verdict_at(str(index), 0)

    def _propose(self) -> int | None:
        if self._order is None:
            return next(iter(self._waiting), None)
        return self._order.next(self._waiting, self._outcomes)

    def _schedule(self, index: int, place: int, *, after: int) -> None:
        lasts = self._grid.trials[index].points[place].resource - after
        heapq.heappush(self._events, (self._clock.now + lasts, self._scheduled, index, place))
        self._scheduled += 1


def simulate(
    grid: Grid,
    pruner: BasePruner,
    *,
    workers: int = 1,
    seed: int = 0,
    calibration: int = 4,
    order: Arrival = "promising",
) -> Ending:
    """Replay one sweep.

    Args:
        grid: the recorded trials.
        pruner: a fresh one; it may keep books.
        workers: trials that run at a time.
        seed: settles the arrival order, the calibration cells and ties.
        calibration: trials that run to their end first, with order ``promising``.
        order: ``promising``, as a live sweep proposes its cells, or ``random``.
    """
    with _rare_collections():
        return _Sweep(grid, pruner, seed=seed, calibration=calibration, order=order).run(workers)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python look for unreachable cycles less often: the record only grows, and has none.

    The default looks through every object of 10,000 trials again and again, a fifth of a replay's time.
    """
    usual = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def replay(
    grid: Grid,
    name: str,
    make_pruner: MakePruner,
    *,
    workers: Sequence[int] = (1, 4, 16),
    orders: int = 20,
    seed: int = 0,
    calibration: int = 4,
    order: Arrival = "promising",
) -> Iterator[tuple[Score, tuple[Ending, ...]]]:
    """Replay a grid under one pruner, once per number of workers, each averaged over ``orders`` arrival orders."""
    for count in workers:
        endings = tuple(
            simulate(
                grid,
                make_pruner(grid.direction),
                workers=count,
                seed=seed + each,
                calibration=calibration,
                order=order,
            )
            for each in range(orders)
        )
        yield average(grid, name, count, [ending.stopped_at for ending in endings]), endings
