"""How much each axis mattered: main effects among the trials that ran to their end.

A plain share of variance and no more: pruned trials have no final score, so cells are missing, and missing by choice.
What is left is not balanced, axes can take credit for each other, and interactions belong to none.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sweeper.core.standings import SEED_AXES
from sweeper.report.record import ReportedTrial, SweepRecord, ordered_values, value_text

MIN_TRIALS: Final = 4
"""Finished trials below which no share is named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One value of an axis."""

    value: str
    cells: int
    """Cells that have it."""
    finals: tuple[float, ...]
    """Final objectives of those that ran to their end."""
    best: float | None
    """The best of them."""

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.finals) if self.finals else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """One axis."""

    axis: str
    levels: tuple[Level, ...]
    share: float | None
    """Variance between the means of its values, as a share of all variance of the finals (eta squared), 0 to 1; None
    where fewer than ``MIN_TRIALS`` ended, all alike, or fewer than two values have a finished trial."""


def effects(record: SweepRecord) -> tuple[Effect, ...]:
    """Return every axis with more than one value, the weightiest first; a tie keeps the grid's order."""
    names = list(dict.fromkeys(axis for trial in record.grid for axis in trial.row.axes if axis not in SEED_AXES))
    done = [trial for trial in record.ranked() if not trial.row.replicate_of]
    found = [_effect(record, axis, done) for axis in names]
    varied = [effect for effect in found if len(effect.levels) > 1]
    return tuple(sorted(varied, key=lambda effect: -1.0 if effect.share is None else effect.share, reverse=True))


def _effect(record: SweepRecord, axis: str, done: Sequence[ReportedTrial]) -> Effect:
    levels = []
    for value in ordered_values([trial.row.axes.get(axis) for trial in record.grid]):
        finals = tuple(_final(trial) for trial in done if _same(trial.row.axes.get(axis), value))
        best = (max if record.maximize else min)(finals, default=None)
        cells = sum(_same(trial.row.axes.get(axis), value) for trial in record.grid)
        levels.append(Level(value=value_text(value), cells=cells, finals=finals, best=best))
    return Effect(axis=axis, levels=tuple(levels), share=_share([level.finals for level in levels if level.finals]))


def _share(groups: Sequence[Sequence[float]]) -> float | None:
    values = [value for group in groups for value in group]
    if len(values) < MIN_TRIALS or len(groups) < 2:
        return None
    middle = statistics.fmean(values)
    total = sum((value - middle) ** 2 for value in values)
    between = sum(len(group) * (statistics.fmean(group) - middle) ** 2 for group in groups)
    return min(between / total, 1.0) if total > 0 else None


def _final(trial: ReportedTrial) -> float:
    assert trial.row.objective is not None
    return trial.row.objective


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and left == right
