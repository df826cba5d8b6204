"""What the signals of recorded trials foretold, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sweeper.core.closing import claim_lines
from sweeper.core.foretell import CLAIMS, Correlation, Evidence, evidence
from sweeper.core.milestones import Milestones
from sweeper.pruners.evidence import GROUP_AXIS, finished
from sweeper.pruners.history import Curve, History
from sweeper.replay.curves import Grid, RecordedTrial

PARTS: Final = 10
"""Evenly spaced milestones that a recorded grid is looked at, the last of which is its end."""


def grid_evidence(grid: Grid) -> tuple[Evidence, ...]:
    """Return what every signal foretold at each tenth of the longest trial, of those with a finite end."""
    sign = -1.0 if grid.direction == "minimize" else 1.0
    milestones = Milestones.even(max(trial.cost for trial in grid.trials), PARTS).samples[:-1]
    trials = [
        finished(recorded_history(each), milestones, goodness=sign * each.final, group=each.config.get(GROUP_AXIS))
        for each in grid.trials
    ]
    return evidence(trials, milestones)


def signals_table(grid: Grid) -> str:
    """Return one line per signal and milestone, and what that says of the paper's claims."""
    found = grid_evidence(grid)
    rows = [("signal", "samples", "trials", "higher ends better", "within a batch size", "the paper's claim")]
    rows += [
        (
            each.signal,
            f"{each.samples:,}",
            str(each.trials),
            _told(each.across),
            _told(each.within),
            f"{CLAIMS[each.signal]} ends better: {each.finding(each.across)}" if each.signal in CLAIMS else "",
        )
        for each in found
    ]
    return "\n".join(
        [f"{grid.name}: {len(grid.trials)} trials that ran to their end", *aligned(rows), *claim_lines(found)]
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _told(found: Correlation | None) -> str:
    return "-" if found is None else f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def recorded_history(trial: RecordedTrial) -> History:
    """Return a recorded trial's curves as those of a live one."""
    names = dict.fromkeys(name for point in trial.points for name in point.signals)
    curves = {}
    for name in names:
        points = [(point.resource, point.signals[name]) for point in trial.points if name in point.signals]
        curves[name] = Curve(samples=tuple(s for s, _ in points), values=tuple(v for _, v in points))
    warm = [point.resource for point in trial.points if point.warmup_done]
    return History(curves=curves, samples_seen=trial.cost, warmup_end=float(warm[0]) if warm else float("inf"))
