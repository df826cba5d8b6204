"""``python -m benchmarks.pruners.promote --curves FOLDER``: stop against promote, pausing paid for, as a table.

Saved and kept are as ``sweeper.replay.score`` defines them. Reached: what the sweep had spent, as a share of the whole
grid's cost, when the best configuration or a tie with it had run to its end; 1 where that never happened. Costs are
those of a save and of a restore, each as a share of a milestone's training.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import Grid, load_curves
from sweeper.replay.promoted import PauseCosts
from sweeper.replay.score import TIE, regret, saved
from sweeper.replay.simulate import simulate
from sweeper.replay.simulated import Ending, Start


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One sweep to be played."""

    path: Path
    workers: int
    seed: int
    start: Start
    risk: float
    cost: float | None
    """Of a save and of a restore; None: mode stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sweep that was played."""

    job: Job
    grid: str
    saved: float
    kept: bool
    reached: float


def play(job: Job) -> Row:
    """Return how one sweep went."""
    grid = load_curves(job.path)
    costs = None if job.cost is None else PauseCosts(save=job.cost, restore=job.cost)
    pruner = from_spec({"calibrated": {"risk": job.risk}}, direction=grid.direction)
    ending = simulate(grid, pruner, workers=job.workers, seed=job.seed, start=job.start, promote=costs)
    return Row(
        job=job,
        grid=grid.name,
        saved=saved(grid, ending.stopped_at, ending.spent),
        kept=regret(grid, ending.stopped_at) <= TIE,
        reached=reached(grid, ending),
    )


def reached(grid: Grid, ending: Ending) -> float:
    """Return the share of the grid's cost at which the best or a tie with it had run to its end, 1 where none had."""
    count = len(grid.trials)
    alone = ([None if other == index else 0 for other in range(count)] for index in range(count))
    good = [regret(grid, stops) <= TIE for stops in alone]
    spent = [cost for cost, is_good in zip(ending.completed_at, good, strict=True) if cost is not None and is_good]
    return min(spent, default=math.inf) / sum(t.cost for t in grid.trials) if spent else 1.0


def table(rows: Sequence[Row]) -> str:
    """Return one line per mode, cost and number of workers."""
    lines = [
        "| begins | mode, save / restore | workers | saved | kept | worst grid's kept | reached |",
        "|---" * 7 + "|",
    ]
    keys = sorted({(r.job.start, r.job.cost is not None, r.job.cost or 0.0, r.job.workers) for r in rows})
    for start, promotes, cost, workers in keys:
        mine = [
            r
            for r in rows
            if (r.job.start, r.job.cost is not None, r.job.cost or 0.0, r.job.workers)
            == (start, promotes, cost, workers)
        ]
        by_grid = [statistics.fmean(r.kept for r in mine if r.grid == grid) for grid in {r.grid for r in mine}]
        mode = f"promote, {cost:g} / {cost:g}" if promotes else "stop"
        numbers = [statistics.fmean(values) for values in ([r.saved for r in mine], [r.kept for r in mine])]
        late = statistics.fmean(r.reached for r in mine)
        cells = [start, mode, str(workers), *(f"{x:.2f}" for x in (*numbers, min(by_grid), late))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners.promote", description=__doc__)
    parser.add_argument("--curves", type=Path, required=True, help="folder with curves/1 files")
    parser.add_argument("--grids", default="", help="only grids whose file name holds this")
    parser.add_argument("--workers", default="1", help="default: 1")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--risk", type=float, default=0.02)
    parser.add_argument("--costs", default="0,0.1,0.5", help="of a save and of a restore, shares of a milestone")
    parser.add_argument("--starts", default="centre,random", help="first cell: as a live sweep begins, or drawn")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    files = [path for path in sorted(args.curves.glob("*.jsonl")) if args.grids in path.name]
    jobs = [
        Job(path=path, workers=int(workers), seed=args.seed + order, start=start, risk=args.risk, cost=cost)
        for start in args.starts.split(",")
        for cost in (None, *map(float, args.costs.split(",")))
        for workers in args.workers.split(",")
        for path in files
        # From the centre nothing is drawn: all orders are the same.
        for order in range(1 if start == "centre" else args.orders)
    ]
    with ProcessPoolExecutor(args.processes) as pool:
        print(table(list(pool.map(play, jobs))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
