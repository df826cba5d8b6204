"""``python -m benchmarks.pruners.worlds``: does ``calibrated`` keep its promise on sweeps drawn at random? As a table.

Each world is a way in which early values mislead: they foretell nothing, curves cross, step down late, rise again, rest
on a plateau before they fall, or most trials tie. One world is easy, to show that the promise is not kept by pruning
nothing. Loss: share of sweeps in which neither the best trial nor a tie with it ran to its end, with its 95% error.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.pruners.constants import VARIANTS, constant
from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import Grid, Point, RecordedTrial
from sweeper.replay.promoted import PauseCosts
from sweeper.replay.score import TIE, regret, saved
from sweeper.replay.simulate import simulate

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator
POINTS: Final = 12
SAMPLES_PER_POINT: Final = 100
RATES: Final = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
BATCHES: Final = (16, 64, 256)
SHARE: Final = np.arange(1, POINTS + 1) / POINTS
"""Share of the training at each point."""


def bowl(rng: Rng) -> Floats:
    """Return final values over the grid, best somewhere inside, with the noise of a seed."""
    rate, batch = np.meshgrid(np.log10(RATES), np.log2(BATCHES), indexing="ij")
    best = rng.uniform(-4.5, -3.0)
    finals = 1 + 0.1 * (rate - best - 0.1 * (batch - 6)) ** 2 + rng.normal(0, 0.02, rate.shape)
    return np.asarray(finals.ravel())


def easy(rng: Rng) -> Floats:
    """Early values tell the order of the final ones."""
    return bowl(rng)[:, None] + 0.5 / (12 * SHARE) + rng.normal(0, 0.002, (18, POINTS))


def unforetold(rng: Rng) -> Floats:
    """Final values are drawn anew at 90% of the way: nothing before says anything."""
    early, late = rng.uniform(1, 2, (18, 1)), rng.uniform(1, 2, (18, 1))
    return np.where(SHARE < 0.9, early, late) + rng.normal(0, 0.01, (18, POINTS))


def crossing(rng: Rng) -> Floats:
    """The higher the learning rate the faster the fall, and the worse the end."""
    rate = np.repeat(np.linspace(0, 1, len(RATES)), len(BATCHES))[:, None]
    finals = 1 + 0.3 * rate + rng.normal(0, 0.03, (18, 1))
    return finals + np.exp(-SHARE * (4 + 26 * rate)) * 3 + rng.normal(0, 0.01, (18, POINTS))


def late_step(rng: Rng) -> Floats:
    """Every trial steps down at two thirds, each by its own amount."""
    drop = rng.uniform(0, 0.5, (18, 1))
    return bowl(rng)[:, None] + 0.3 / (12 * SHARE) + np.where(SHARE < 2 / 3, 0.5, 0.5 - drop)


def rising_again(rng: Rng) -> Floats:
    """Curves fall, then rise: the best value of the run counts less than the last one."""
    turn = rng.uniform(0.3, 1.0, (18, 1))
    return (
        bowl(rng)[:, None] + np.abs(SHARE - turn) * rng.uniform(0.2, 1.0, (18, 1)) + rng.normal(0, 0.01, (18, POINTS))
    )


def plateau(rng: Rng) -> Floats:
    """Trials rest at chance level and fall at a time of their own, or never."""
    falls = rng.uniform(0.1, 1.3, (18, 1))
    return np.where(falls > SHARE, 3.0, bowl(rng)[:, None]) + rng.normal(0, 0.005, (18, POINTS))


def ties(rng: Rng) -> Floats:
    """All trials end at the same target but a few."""
    finals = np.where(
        rng.uniform(size=(18, 1)) < 0.2, rng.uniform(0.8, 1.2, (18, 1)), 1 + rng.normal(0, 0.001, (18, 1))
    )
    return finals + 0.5 * np.exp(-SHARE * rng.uniform(2, 8, (18, 1)))


WORLDS: Final[dict[str, Callable[[Rng], Floats]]] = {
    made.__name__: made for made in (easy, unforetold, crossing, late_step, rising_again, plateau, ties)
}


def draw(name: str, seed: int) -> Grid:
    """Return one sweep of 18 trials from this world; every second seed ranks trials by the best value of their run."""
    rng = np.random.default_rng([seed, list(WORLDS).index(name)])
    curves = WORLDS[name](rng)
    best_counts = seed % 2 == 0
    configs = [{"learning_rate": rate, "batch_size": batch} for rate in RATES for batch in BATCHES]
    trials = [
        RecordedTrial(
            name=str(index),
            config=config,
            final=float(values.min() if best_counts else values[-1]),
            points=tuple(
                Point(resource=SAMPLES_PER_POINT * k, signals={"objective": float(value)})
                for k, value in enumerate(values, 1)
            ),
        )
        for index, (config, values) in enumerate(zip(configs, curves, strict=True))
    ]
    return Grid(name=name, direction="minimize", best_counts=best_counts, trials=tuple(trials))


def measure(
    name: str, risk: float, sweeps: int, *, seed: int = 0, promote: PauseCosts | None = None
) -> tuple[float, float]:
    """Return the mean share saved and the share of sweeps that lost the best, workers 1, 4 and 16 in turn."""
    shares, losses = [], []
    for each in range(seed, seed + sweeps):
        grid, workers = draw(name, each), (1, 4, 16)[each % 3]
        pruner = from_spec({"calibrated": {"risk": risk}}, direction=grid.direction)
        ending = simulate(grid, pruner, workers=workers, seed=each, promote=promote)
        shares.append(saved(grid, ending.stopped_at, ending.spent))
        losses.append(regret(grid, ending.stopped_at) > TIE)
    return statistics.fmean(shares), statistics.fmean(losses)


def error(risk: float, sweeps: int) -> float:
    """Return the 95% sampling error of a loss rate that is exactly ``risk``."""
    return 1.96 * math.sqrt(risk * (1 - risk) / sweeps)


def main() -> int:
    """Print one row per world."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners.worlds", description=__doc__)
    parser.add_argument("--sweeps", type=int, default=120)
    parser.add_argument("--mode", choices=["stop", "promote"], default="stop", help="promote: at no cost of pausing")
    parser.add_argument("--risks", default="0.02,0.1")
    parser.add_argument("--worlds", default="", help="only these, comma-separated")
    parser.add_argument(
        "--variant", choices=VARIANTS, metavar="NAME", help="as 'process.TEMPER x 2': a constant changed"
    )
    args = parser.parse_args()
    names = args.worlds.split(",") if args.worlds else list(WORLDS)
    if unknown := set(names) - set(WORLDS):
        parser.error(f"--worlds: no {', '.join(sorted(unknown))}; there are: {', '.join(WORLDS)}")
    promote = PauseCosts() if args.mode == "promote" else None
    risks = [float(part) for part in args.risks.split(",")]
    allowed = [f"risk {risk}: saved / lost (at most {risk + error(risk, args.sweeps):.3f})" for risk in risks]
    print("| world | " + " | ".join(allowed) + " |", "|---" * (len(risks) + 1) + "|", sep="\n", flush=True)
    for name in names:
        with constant(*VARIANTS[args.variant]) if args.variant else nullcontext():
            found = [measure(name, risk, args.sweeps, promote=promote) for risk in risks]
        print(f"| {name} | " + " | ".join(f"{share:.2f} / {lost:.3f}" for share, lost in found) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
