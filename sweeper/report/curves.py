"""The learning curves: which signal is drawn, in which window, and which trials are named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sweeper.pruners.history import OBJECTIVE, TRAIN_LOSS, Curve
from sweeper.report.record import Role, SweepRecord

NAMED: Final = 3
"""Leaders that carry their name."""
REACH: Final = 6.0
"""Distances from the best to the median value that fit the window: a diverging loss would flatten all other curves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One trial's curve."""

    name: str
    role: Role
    curve: Curve
    label: str = ""
    """Its name where it is a leader; empty otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """What the picture of learning curves shows."""

    signal: str
    """The objective, or the training loss where the objective was measured at ends alone."""
    lines: tuple[Line, ...]
    """The leaders last, so that they lie on top."""
    low: float
    high: float
    outside: int
    """Curves that leave the window."""


def learning_curves(record: SweepRecord) -> Curves | None:
    """Return the curves of every trial that has one; None where no trial has a finite value."""
    signal = OBJECTIVE
    if not any(len(trial.past.curve(OBJECTIVE)) > 1 for trial in record.trials):
        signal = TRAIN_LOSS if any(len(trial.past.curve(TRAIN_LOSS)) > 1 for trial in record.trials) else OBJECTIVE
    leaders = [trial.row.fingerprint for trial in record.ranked()[:NAMED]]
    lines = []
    for trial in record.trials:
        curve = trial.past.curve(signal)
        if any(math.isfinite(value) for value in curve.values):
            label = trial.row.name if trial.row.fingerprint in leaders else ""
            lines.append(Line(name=trial.row.name, role=record.role(trial), curve=curve, label=label))
    if not lines:
        return None
    maximize = record.maximize and signal == OBJECTIVE
    low, high = _window([value for line in lines for value in line.curve.values], maximize=maximize)
    outside = sum(any(math.isfinite(v) and not low <= v <= high for v in line.curve.values) for line in lines)
    lines.sort(key=lambda line: (bool(line.label), line.role == "winner", line.role == "complete"))
    return Curves(
        signal=record.objective if signal == OBJECTIVE else signal,
        lines=tuple(lines),
        low=low,
        high=high,
        outside=outside,
    )


def _window(values: Sequence[float], *, maximize: bool) -> tuple[float, float]:
    """Return the range that is drawn: from the best value to the worst, but at most ``REACH`` medians away."""
    finite = np.asarray([value for value in values if math.isfinite(value)], dtype=np.float64)
    best, worst = (finite.max(), finite.min()) if maximize else (finite.min(), finite.max())
    middle = float(np.median(finite))
    far = best + REACH * (middle - best)
    worst = max(worst, far) if maximize else min(worst, far)
    low, high = sorted((float(best), float(worst)))
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
