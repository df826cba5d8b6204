"""Recorded sweeps in the format ``curves/1``: JSON lines, a header and one line per trial that ran to its end.

Header: ``format``, ``grid``, ``objective`` (``metric``, ``direction``, ``final``), ``resource``. A trial: ``trial``,
``config``, ``final``, ``cost``, ``curve``, whose points hold ``resource`` and any of ``objective``, ``train_loss``,
``grad_norm`` and ``warmup_done`` (true or false; true where it is absent). Non-finite numbers are the strings ``NaN``,
``Infinity``, ``-Infinity``.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeper.core.errors import InputError

FORMAT = "curves/1"
SIGNALS = ("objective", "train_loss", "grad_norm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What one trial reported at one resource; a signal that was not logged is absent."""

    resource: int
    signals: Mapping[str, float]
    warmup_done: bool = True
    """Whether the learning rate had reached its peak before; True where it is not known."""
    first_loss: float | None = None
    """Loss of the very first optimizer step, at a trial's first point, where it is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedTrial:
    """One trial, run to its end."""

    name: str
    config: Mapping[str, Any]
    final: float
    """The number by which trials are ranked; not finite where the trial has none."""
    points: tuple[Point, ...]

    @property
    def cost(self) -> int:
        """Resource at the end."""
        return self.points[-1].resource


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A recorded sweep."""

    name: str
    direction: Literal["minimize", "maximize"]
    best_counts: bool
    """Whether a trial is ranked by the best value of its run, else by its last."""
    trials: tuple[RecordedTrial, ...]

    @property
    def planned(self) -> int:
        """Return where every trial ends, 0 where they end at different resources and nobody knew beforehand."""
        costs = {trial.cost for trial in self.trials}
        return costs.pop() if len(costs) == 1 else 0

    def axes(self) -> list[dict[str, Any]]:
        """Return each trial's values of the settings that differ between trials."""
        names = sorted({name for trial in self.trials for name in trial.config})
        texts = {name: {json.dumps(trial.config.get(name)) for trial in self.trials} for name in names}
        varied = [name for name in names if len(texts[name]) > 1]
        return [{name: trial.config.get(name) for name in varied} for trial in self.trials]


def load_curves(path: Path) -> Grid:
    """Read one recorded sweep.

    Raises:
        InputError: the file is missing or a line breaks the format; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else f"not UTF-8 at byte {error.start}"
        raise InputError(f"cannot be read: {problem}", where=str(path)) from error
    rows = [
        (f"{path}:{number}", _json(line, f"{path}:{number}")) for number, line in enumerate(lines, 1) if line.strip()
    ]
    where, header = rows[0] if rows else (f"{path}:1", {})
    if header.get("format") != FORMAT:
        raise InputError(f"the first line must be a header of format {FORMAT!r}", where=where, got=header.get("format"))
    objective = header.get("objective")
    direction = objective.get("direction") if isinstance(objective, dict) else None
    if not isinstance(objective, dict) or direction not in ("minimize", "maximize"):
        raise InputError("objective.direction must be minimize or maximize", where=where, got=direction)
    trials = tuple(_trial(row, place) for place, row in rows[1:])
    if not any(math.isfinite(trial.final) for trial in trials):
        raise InputError("needs at least one trial with a finite final value", where=str(path), got=len(trials))
    return Grid(
        name=str(header.get("grid", path.stem)),
        direction=direction,
        best_counts=str(objective.get("final", "")).startswith("best"),
        trials=trials,
    )


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", where=where) from error
    except (RecursionError, ValueError) as error:
        raise InputError("not JSON that can be read: nested too deep, or a number too long", where=where) from error
    if not isinstance(row, dict):
        raise InputError("must be a JSON object", where=where, got=row)
    return row


def _trial(row: Mapping[str, Any], where: str) -> RecordedTrial:
    try:
        curve = [
            Point(
                resource=_whole(point["resource"], where),
                signals={name: float(point[name]) for name in SIGNALS if point.get(name) is not None},
                warmup_done=_truth(point.get("warmup_done", True), where),
            )
            for point in row["curve"]
        ]
        final, name, config = float(row["final"]), str(row["trial"]), dict(row["config"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"not a trial of format {FORMAT}: {error!r}", where=where) from error
    rising = all(a.resource < b.resource for a, b in itertools.pairwise(curve))
    if not curve or curve[0].resource < 0 or not rising:
        raise InputError("a curve needs points at rising resources", where=where, got=[p.resource for p in curve[:5]])
    return RecordedTrial(name=name, config=config, final=final, points=tuple(curve))


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError("warmup_done must be true or false", where=where, got=value)
    return value


def _whole(value: Any, where: str) -> int:
    if float(value) != int(value):
        raise InputError("resource must be a whole number", where=where, got=value)
    return int(value)
