"""Measurements as lines of a ``curves/1`` file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sweeper.core.measurement import Measurement
from sweeper.core.space import Cell, SearchSpace

EXTRA: Final = ("noise_scale", "update_ratio")
"""Signals of a window that are kept besides loss and gradient norm."""
DIGITS: Final = 6


def header_line(space: SearchSpace, world: str, seed: int, trials: int, source: str) -> str:
    """Return the first line of a file."""
    objective = space.objective
    return _line(
        {
            "format": "curves/1",
            "grid": f"sft-grid_{world}_seed{seed}",
            "objective": {
                "metric": objective.metric,
                "direction": objective.resolved_direction,
                "final": "at the end of training",
            },
            "resource": "samples",
            "source": source,
            "n_trials": trials,
        }
    )


def trial_line(cell: Cell, measured: Sequence[Measurement], metric: str) -> str:
    """Return a trial that ran to its end; its final value is NaN where the objective ended so."""
    final = measured[-1].signal(metric)
    return _line(
        {
            "trial": cell.name,
            "config": dict(cell.axes),
            "final": math.nan if final is None else final,
            "cost": measured[-1].samples_seen,
            "curve": [_point(each, metric) for each in measured],
        }
    )


def _point(measurement: Measurement, metric: str) -> dict[str, Any]:
    point: dict[str, Any] = {
        "resource": measurement.samples_seen,
        "objective": measurement.signal(metric),
        "train_loss": measurement.train_loss,
        "grad_norm": measurement.grad_norm,
        "step": measurement.step,
        "tokens": measurement.tokens_seen,
        "warmup_done": measurement.warmup_done,
        "seconds": round(measurement.train_s, 2),
        **{name: measurement.extra.get(name) for name in EXTRA},
        **measurement.scores,
    }
    return {name: value for name, value in point.items() if value is not None}


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_plain(row), allow_nan=False, separators=(",", ":")) + "\n"


def _plain(value: Any) -> Any:
    """Return the value with floats rounded and non-finite ones as text."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return float(f"{value:.{DIGITS}g}")
    return value
