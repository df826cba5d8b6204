"""A sweep on a simulated clock, from its first cell to its end, and the mean over arrival orders."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from optuna.pruners import BasePruner

from sweeper.core.search import SearchConfig
from sweeper.replay.curves import Grid
from sweeper.replay.promoted import PauseCosts, PromotedSweep
from sweeper.replay.score import Score, average
from sweeper.replay.simulated import Arrival, Ending, SimulatedSweep, Start

MakePruner = Callable[[str], BasePruner]
"""Returns a fresh pruner for a direction."""


def simulate(
    grid: Grid,
    pruner: BasePruner,
    *,
    workers: int = 1,
    seed: int = 0,
    calibration: int = 4,
    order: Arrival = "promising",
    start: Start = "random",
    promote: PauseCosts | None = None,
    search: SearchConfig | None = None,
) -> Ending:
    """Replay one sweep.

    Args:
        grid: the recorded trials.
        pruner: a fresh one; it may keep books.
        workers: trials that run at a time.
        seed: settles the arrival order, the calibration cells and ties.
        calibration: trials that run to their end first, with order ``promising``.
        order: ``promising``, as a live sweep proposes its cells, or ``random``.
        start: the first calibration cell, or the first one to be promoted: the centre of the axes, as in a live
            sweep, or one drawn by the seed.
        promote: pause trials at rungs and promote the most promising ones, at these costs; the calibration cells and
            ``order`` are then left out. None: each trial runs until it ends.
        search: which cells are run, as the key of a search space says; None means all. A local search calibrates on
            the cells that it tests first, and has an order of its own.
    """
    with _rare_collections():
        if promote is not None:
            return PromotedSweep(grid, pruner, seed=seed, costs=promote, start=start).run(workers)
        return SimulatedSweep(
            grid, pruner, seed=seed, calibration=calibration, order=order, start=start, search=search
        ).run(workers)


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
    promote: PauseCosts | None = None,
    search: SearchConfig | None = None,
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
                promote=promote,
                search=search,
            )
            for each in range(orders)
        )
        yield (
            average(grid, name, count, [ending.stopped_at for ending in endings], [each.spent for each in endings]),
            endings,
        )
