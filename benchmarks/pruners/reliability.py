"""``python -m benchmarks.pruners.reliability --curves FOLDER``: are the forecasters' claims true? As tables.

A sweep's loss is the sum of many small chances, and too rare to tell which claim was wrong. So each forecaster is asked
directly: some trials of a recorded grid, drawn at random, have ended, and it says of another one, at several ages, how
likely that ends better than all of them by more than a tie. Claims are put into bins; in each, the mean claim stands
against the share that did. Trials that come to beat the others are rare and all asked about, the rest is drawn and
weighted to make up for it.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sweeper.core.order import embed
from sweeper.pruners.forecast import beats_by_pace, beats_by_stall
from sweeper.pruners.path import Path as Curve
from sweeper.pruners.path import make_path
from sweeper.pruners.process import beats_by_process
from sweeper.replay.curves import Grid, load_curves
from sweeper.replay.score import TIE

BINS: Final = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
AGES: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85)
"""Shares of a trial's reports after which it is asked about."""
ENDED: Final = (4, 6, 8, 12, 18)
OTHERS: Final = 8
"""Trials asked about that do not beat the ended ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One answer of one forecaster and what came of it."""

    forecaster: str
    chance: float
    came_true: bool
    weight: float


def claims(grid: Grid, draws: int, seed: int) -> Iterator[Claim]:
    """Yield every claim made about this grid."""
    curves, finals = _curves(grid)
    points, rng = embed(grid.axes()), random.Random(seed)
    usable = [i for i, curve in enumerate(curves) if curve is not None and math.isfinite(finals[i])]
    middle = float(np.median([finals[i] for i in usable]))
    for _ in range(draws):
        ended = rng.sample(usable, min(rng.choice(ENDED), len(usable) - 1))
        best = min(finals[i] for i in ended)
        unit = max(float(np.median([finals[i] for i in ended])) - best, 1e-12)
        target = best - TIE * max(middle - best, 0.0)
        rest = [i for i in usable if i not in ended]
        winners = [i for i in rest if finals[i] < target]
        others = [i for i in rest if i not in winners]
        asked = rng.sample(others, min(OTHERS, len(others)))
        peers = [curve for i in ended if (curve := curves[i]) is not None]
        for each in (*winners, *asked):
            weight = 1.0 if each in winners else len(others) / len(asked)
            for young in _ages(curves[each]):
                if young.value > best:
                    said = _said(young, peers, points, target=target, best=best, unit=unit, planned=grid.planned)
                    for name, chance in said:
                        yield Claim(forecaster=name, chance=chance, came_true=each in winners, weight=weight)


def table(found: Sequence[Claim]) -> str:
    """Return claimed / seen (weighted number of claims, asked winners among them) by forecaster and bin."""
    heads = " | ".join(f"up to {high:g}" for high in BINS[1:])
    lines = [f"| forecaster | {heads} |", "|---" * len(BINS) + "|"]
    for name in dict.fromkeys(claim.forecaster for claim in found):
        mine = [claim for claim in found if claim.forecaster == name]
        cells = [
            _cell([c for c in mine if low <= c.chance < high or c.chance == high == 1.0])
            for low, high in itertools.pairwise(BINS)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _curves(grid: Grid) -> tuple[list[Curve | None], list[float]]:
    sign = 1.0 if grid.direction == "minimize" else -1.0
    finals = [sign * trial.final for trial in grid.trials]
    curves = [
        make_path(
            [p.resource for p in trial.points if "objective" in p.signals],
            [sign * p.signals["objective"] for p in trial.points if "objective" in p.signals],
            final=final if math.isfinite(final) else None,
            cell=row,
            best_counts=grid.best_counts,
        )
        for row, (trial, final) in enumerate(zip(grid.trials, finals, strict=True))
    ]
    return curves, finals


def _ages(curve: Curve | None) -> Iterator[Curve]:
    assert curve is not None
    last = len(curve.samples) - 1
    for place in sorted({min(last, int(share * len(curve.samples))) for share in AGES}):
        young = curve.until(float(curve.samples[place]))
        assert young is not None
        yield young


def _said(
    young: Curve,
    peers: Sequence[Curve],
    points: np.typing.NDArray[np.float64],
    *,
    target: float,
    best: float,
    unit: float,
    planned: int,
) -> Iterator[tuple[str, float]]:
    forecast = beats_by_process(young, peers, points, best=best, unit=unit)
    chances = {
        "stall": beats_by_stall(young, peers, target, unit),
        "pace": beats_by_pace(young, peers, target, unit, float(planned) or None),
        "process": None if forecast is None else forecast.below(target),
    }
    yield from ((name, chance) for name, chance in chances.items() if chance is not None)


def _cell(found: Sequence[Claim]) -> str:
    weight = sum(claim.weight for claim in found)
    if not found:
        return ""
    claimed = sum(claim.chance * claim.weight for claim in found) / weight
    seen = sum(claim.weight for claim in found if claim.came_true) / weight
    return f"{claimed:.5f} / {seen:.5f} ({weight:.0f}, {sum(claim.came_true for claim in found)})"


def main() -> int:
    """Print one table per family."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners.reliability", description=__doc__)
    parser.add_argument("--curves", type=Path, required=True, help="folder with curves/1 files")
    parser.add_argument("--draws", type=int, default=16, help="sets of ended trials drawn from each grid")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    families: dict[str, list[Claim]] = {}
    for path in sorted(args.curves.glob("*.jsonl")):
        found = families.setdefault(path.name.split("_")[0], [])
        found.extend(claims(load_curves(path), args.draws, args.seed))
    for family, found in families.items():
        print(f"{family}: claimed / seen (claims, of them about trials that came to beat the others)\n")
        print(table(found), end="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
