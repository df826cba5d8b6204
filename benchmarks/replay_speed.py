"""``python -m benchmarks.replay_speed``: how long a large replay takes, and how many decisions that is a second.

A synthetic grid from a seed, played through the judge, the order and the pruners of a live sweep on one core. Every
trial's curve falls to a level that its cell sets, with noise, and the highest learning rates blow up.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import Grid, Point, RecordedTrial
from sweeper.replay.simulate import simulate

SPECS: dict[str, Any] = {
    "nop": [{"guards": False}, "nop"],
    "guards": [],
    "median": [{"guards": False}, "median"],
    "guards, calibrated": ["calibrated"],
}
SAMPLES_PER_MILESTONE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """One timed replay."""

    seconds: float
    reports: int
    """Measurements that were judged."""
    pruned: int


def synthetic_grid(trials: int, milestones: int, seed: int) -> Grid:
    """Return a full grid over batch size, learning rate and warmup, cut to ``trials`` cells."""
    rng = np.random.default_rng(seed)
    rates = 10.0 ** np.linspace(-6, -2, 25)
    warmups = np.linspace(0, 0.19, 20).round(2)
    batches = 2 ** np.arange(4, 4 + -(-trials // (len(rates) * len(warmups))))
    cells = list(itertools.product(batches.tolist(), rates.tolist(), warmups.tolist()))[:trials]
    recorded = tuple(_trial(index, cell, milestones, rng) for index, cell in enumerate(cells))
    return Grid(name="synthetic", direction="minimize", best_counts=False, trials=recorded)


def _trial(index: int, cell: tuple[int, float, float], milestones: int, rng: np.random.Generator) -> RecordedTrial:
    batch, rate, warmup = cell
    distance = np.log10(rate) + 4 - 0.15 * np.log2(batch / 16)
    share = np.arange(1, milestones + 1) / milestones
    loss = 1 + 0.2 * distance**2 + np.exp(-share * (3 + distance)) + rng.normal(0, 0.005, milestones)
    norm = 0.5 + np.exp(distance / 2) * (1 - 0.5 * share) + rng.normal(0, 0.02, milestones)
    if distance > 1.5:
        loss[milestones // 3 :] *= 40
    points = tuple(
        Point(
            resource=SAMPLES_PER_MILESTONE * (place + 1),
            signals={"objective": float(loss[place]) + 0.02, "train_loss": float(loss[place]), "grad_norm": float(n)},
        )
        for place, n in enumerate(norm)
    )
    config = {"batch_size": batch, "learning_rate": rate, "warmup_ratio": warmup}
    return RecordedTrial(name=str(index), config=config, final=points[-1].signals["objective"], points=points)


def play(grid: Grid, spec: Any, workers: int) -> Played:
    """Replay the grid once and time it."""
    pruner = from_spec(spec, direction=grid.direction)
    began = time.process_time()
    ending = simulate(grid, pruner, workers=workers)
    seconds = time.process_time() - began
    stops = ending.stopped_at
    each = (sum(p.resource <= (s or t.cost) for p in t.points) for t, s in zip(grid.trials, stops, strict=True))
    return Played(seconds=seconds, reports=sum(each), pruned=sum(stop is not None for stop in stops))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay_speed", description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--milestones", type=int, default=50)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pruners", default="", help="only pruners whose name holds one of these, semicolon-separated")
    args = parser.parse_args()
    named = [part for part in args.pruners.split(";") if part]
    grid = synthetic_grid(args.trials, args.milestones, args.seed)
    print(f"{args.trials:,} trials x {args.milestones} milestones on {args.workers} simulated workers\n")
    print("| pruner | seconds | decisions | decisions/s | pruned |\n|---|---|---|---|---|")
    for name, spec in SPECS.items():
        if named and not any(part in name for part in named):
            continue
        done = play(grid, spec, args.workers)
        rate = done.reports / done.seconds
        print(f"| {name} | {done.seconds:.1f} | {done.reports:,} | {rate:,.0f} | {done.pruned:,} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
