"""The heatmap: which two axes span it, which make panels, and what stands in each slot."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sweeper.core.record import rank
from sweeper.core.standings import counted
from sweeper.report.effects import Effect
from sweeper.report.record import ReportedTrial, Role, SweepRecord, ordered_values, value_text

PREFERRED: Final = ("learning_rate", "batch_size")
"""Axes that go across and down wherever the grid has them."""
MAX_SPREAD: Final = 6
"""Slots per cell beyond which the cells form no grid: settings drawn at random would leave nearly all slots empty."""
_SHOWN_FIRST: Final[Sequence[Role]] = (
    "winner",
    "complete",
    "running",
    "pruned",
    "guard",
    "failed",
    "waiting",
    "infeasible",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """What stands at one place of the grid: one cell, or the repetitions of one setting."""

    role: Role
    value: float | None
    """Mean final objective of what ran to its end, else the last one measured; None where there is none."""
    at: int
    """Samples seen where it was ended."""
    rule: str = ""
    """The rule that ended it; empty where it ended by itself."""
    repeats: int = 1
    """Trials behind ``value``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One heatmap."""

    title: str
    """The values of all further axes; empty without any."""
    across: str
    down: str
    """Empty where the grid has a single axis."""
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    slots: Mapping[tuple[int, int], Slot]
    """By row and column; a place without a cell is missing."""


def panels(record: SweepRecord, found: Sequence[Effect], first: str = "") -> tuple[Panel, ...]:
    """Return one panel per combination of further axes; none where the cells form no grid.

    Args:
        record: the sweep.
        found: its axes, the weightiest first.
        first: ``setting_key`` of the setting that came out best.
    """
    names = [effect.axis for effect in found]
    if not names:
        return ()
    chosen: list[str] = [axis for axis in PREFERRED if axis in names]
    chosen += [axis for axis in names if axis not in chosen][: 2 - len(chosen)]
    across, down = (chosen[0], chosen[1]) if len(chosen) > 1 else (chosen[0], "")
    others = [axis for axis in _in_grid_order(record, names) if axis not in chosen]
    values = {axis: ordered_values([trial.row.axes.get(axis) for trial in record.trials]) for axis in names}
    values[""] = [None]
    if math.prod(len(values[axis]) for axis in names) > MAX_SPREAD * len(record.trials):
        return ()
    return tuple(
        _panel(record, first, across, down, values, dict(zip(others, combination, strict=True)))
        for combination in itertools.product(*(values[axis] for axis in others))
    )


def _panel(
    record: SweepRecord, first: str, across: str, down: str, values: Mapping[str, list[Any]], fixed: Mapping[str, Any]
) -> Panel:
    mine = [trial for trial in record.trials if all(_equal(trial.row.axes.get(k), v) for k, v in fixed.items())]
    slots = {}
    for row, column in itertools.product(range(len(values[down])), range(len(values[across]))):
        wanted = {down: values[down][row], across: values[across][column]}
        here = [t for t in mine if all(_equal(t.row.axes.get(k), v) for k, v in wanted.items() if k)]
        if here:
            slots[row, column] = _slot(record, first, here)
    return Panel(
        title=", ".join(f"{axis} {value_text(value)}" for axis, value in fixed.items()),
        across=across,
        down=down,
        columns=tuple(value_text(value) for value in values[across]),
        rows=tuple(value_text(value) for value in values[down]),
        slots=slots,
    )


def _slot(record: SweepRecord, first: str, here: Sequence[ReportedTrial]) -> Slot:
    shown = min(here, key=lambda trial: _SHOWN_FIRST.index(record.role(trial)))
    # The best run may belong to a setting whose other runs are worse: the best slot is that of the best mean.
    role = "complete" if record.role(shown) == "winner" else record.role(shown)
    ended = counted(rank([trial.row for trial in here], maximize=record.maximize))
    done = [row.objective for row in ended if row.objective is not None]
    return Slot(
        role="winner" if any(trial.setting_key == first for trial in here) else role,
        value=statistics.fmean(done) if done else shown.row.objective,
        at=shown.row.samples_seen,
        rule=shown.row.rule,
        repeats=max(len(done), 1),
    )


def _in_grid_order(record: SweepRecord, names: Sequence[str]) -> list[str]:
    return [axis for axis in dict.fromkeys(a for trial in record.trials for a in trial.row.axes) if axis in names]


def _equal(left: Any, right: Any) -> bool:
    return json.dumps(left, default=str) == json.dumps(right, default=str)
