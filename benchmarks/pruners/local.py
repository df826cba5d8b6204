"""``python -m benchmarks.pruners.local --curves FOLDER``: the whole grid against local search, by grid, as a table.

Saved and kept are as ``sweeper.replay.score`` defines them. Reached: what the sweep had spent, as a share of the whole
grid's cost, when the best configuration or a tie with it had run to its end; ``-`` where that never happened. Grid by
then: share of orders in which the whole grid, for what the local search cost, had got as far. A local search draws
nothing; the whole grid begins at a drawn calibration cell, and its numbers are means over orders.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pruners.promote import reached
from sweeper.core.search import SearchConfig
from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import load_curves
from sweeper.replay.score import TIE, regret, saved
from sweeper.replay.simulate import simulate

SPECS: dict[str, Any] = {"nothing pruned": "nop", "calibrated": {"calibrated": {"risk": 0.02}}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One sweep to be played."""

    path: Path
    search: str
    pruner: str
    workers: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sweep that was played."""

    job: Job
    grid: str
    cells: int
    """Cells that were started."""
    of: int
    saved: float
    kept: bool
    regret: float
    reached: float


def play(job: Job) -> Row:
    """Return how one sweep went."""
    grid = load_curves(job.path)
    pruner = from_spec(SPECS[job.pruner], direction=grid.direction)
    search = SearchConfig(method="local") if job.search == "local" else None
    ending = simulate(grid, pruner, workers=job.workers, seed=job.seed, search=search)
    behind = regret(grid, ending.stopped_at)
    return Row(
        job=job,
        grid=grid.name,
        cells=sum(stop != 0 for stop in ending.stopped_at),
        of=len(grid.trials),
        saved=saved(grid, ending.stopped_at, ending.spent),
        kept=behind <= TIE,
        regret=behind,
        reached=reached(grid, ending),
    )


def table(rows: Sequence[Row]) -> str:
    """Return one line for each search, pruner, number of workers and grid, and their means over grids."""
    heads = ("search", "pruner", "workers", "grid", "cells", "saved", "kept", "regret", "reached", "grid by then")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for search, pruner, workers in dict.fromkeys((r.job.search, r.job.pruner, r.job.workers) for r in rows):
        mine = [r for r in rows if (r.job.search, r.job.pruner, r.job.workers) == (search, pruner, workers)]
        for grid in [*dict.fromkeys(r.grid for r in mine), "mean"]:
            of_grid = [r for r in mine if grid in (r.grid, "mean")]
            lines.append("| " + " | ".join([search, pruner, str(workers), grid, *_numbers(of_grid, rows)]) + " |")
    return "\n".join(lines)


def _numbers(rows: Sequence[Row], others: Sequence[Row]) -> list[str]:
    found = [r.reached for r in rows if r.kept]
    cells = f"{statistics.fmean(r.cells for r in rows):.3g} of {statistics.fmean(r.of for r in rows):.3g}"
    means = [statistics.fmean(values) for values in zip(*((r.saved, r.kept, r.regret) for r in rows), strict=True)]
    late = f"{statistics.fmean(found):.2f}" if found else "-"
    return [cells, *(f"{value:.2f}" for value in means), late, _grid_by_then(rows, others)]


def _grid_by_then(rows: Sequence[Row], others: Sequence[Row]) -> str:
    shares = [
        statistics.fmean(
            other.reached <= 1 - row.saved
            for other in others
            if other.job.search == "grid"
            and (other.grid, other.job.pruner, other.job.workers) == (row.grid, row.job.pruner, row.job.workers)
        )
        for row in rows
        if row.job.search == "local"
    ]
    return f"{statistics.fmean(shares):.2f}" if shares else "-"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners.local", description=__doc__)
    parser.add_argument("--curves", type=Path, required=True, help="folder with curves/1 files")
    parser.add_argument("--grids", default="", help="only grids whose file name holds this")
    parser.add_argument("--workers", default="1,4", help="default: 1,4")
    parser.add_argument("--orders", type=int, default=5, help="of the whole grid; default: 5")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    files = [path for path in sorted(args.curves.glob("*.jsonl")) if args.grids in path.name]
    jobs = [
        Job(path=path, search=search, pruner=pruner, workers=int(workers), seed=order)
        for search in ("grid", "local")
        for pruner in SPECS
        for workers in args.workers.split(",")
        for path in files
        for order in range(1 if search == "local" else args.orders)
    ]
    with ProcessPoolExecutor(args.processes) as pool:
        print(table(list(pool.map(play, jobs))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
