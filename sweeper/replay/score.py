"""What a replayed sweep saved, and whether it kept the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sweeper.replay.curves import Grid

TIE: Final = 0.05
"""Normalised regret up to which a configuration counts as a tie with the best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One pruner on one grid with one number of workers, averaged over arrival orders."""

    grid: str
    pruner: str
    workers: int
    orders: int
    saved: float
    """Mean of 1 - resource spent / resource of the whole grid."""
    kept: float
    """Share of orders in which the best configuration or a tie with it ran to its end."""
    regret: float
    """Mean normalised regret."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``replay --json`` prints."""
        return asdict(self)


def saved(grid: Grid, stopped_at: Sequence[int | None], spent: float | None = None) -> float:
    """Return 1 - (resource spent) / (resource of running every trial to its end).

    ``spent``: what the sweep cost, where that is more than what its trials have seen.
    """
    if spent is None:
        pairs = zip(grid.trials, stopped_at, strict=True)
        spent = sum(trial.cost if stop is None else stop for trial, stop in pairs)
    return 1 - spent / sum(trial.cost for trial in grid.trials)


def regret(grid: Grid, stopped_at: Sequence[int | None]) -> float:
    """Return (best final that ran to its end - best final) / (median finite final - best final), lower being better.

    The worst trial's regret where none ran to its end with a finite value; 0 where the median equals the best.
    """
    sign = 1.0 if grid.direction == "minimize" else -1.0
    finals = [sign * trial.final for trial in grid.trials]
    finite = [final for final in finals if math.isfinite(final)]
    ended = [f for f, stop in zip(finals, stopped_at, strict=True) if stop is None and math.isfinite(f)]
    unit = statistics.median(finite) - min(finite)
    gap = min(ended, default=max(finite)) - min(finite)
    if gap == 0 or unit > 0:
        return gap / unit if unit > 0 else 0.0
    return math.inf


def average(
    grid: Grid,
    pruner: str,
    workers: int,
    endings: Sequence[Sequence[int | None]],
    spent: Sequence[float] | None = None,
) -> Score:
    """Return the mean over orders; each ending says where every trial was stopped, None where it ran to its end.

    ``spent``: what each sweep cost, where saving and restoring paused trials came on top of what they have seen.
    """
    costs = [None] * len(endings) if spent is None else spent
    regrets = [regret(grid, stopped_at) for stopped_at in endings]
    return Score(
        grid=grid.name,
        pruner=pruner,
        workers=workers,
        orders=len(endings),
        saved=statistics.fmean(saved(grid, stops, cost) for stops, cost in zip(endings, costs, strict=True)),
        kept=statistics.fmean(value <= TIE for value in regrets),
        regret=statistics.fmean(regrets),
    )
