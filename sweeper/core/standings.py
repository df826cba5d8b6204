"""Which configuration is best: runs of one configuration with other seeds count as one, by their mean.

Leaders that were run again with fresh seeds (``sweeper confirm``) stand by those runs alone: the run that made a leader
of one of many was partly the luckiest. They stay ahead of the others, whose only runs are of that lucky kind.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from sweeper.core.lifecycle import TrialState
from sweeper.core.space import cell_name

SEED_AXES: Final = ("seed", "train.seed")
"""Axes whose cells repeat one configuration: they measure noise and are no setting to choose."""


class Run(Protocol):
    """What is read of a trial here."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def axes(self) -> Mapping[str, Any]: ...

    @property
    def state(self) -> str: ...

    @property
    def objective(self) -> float | None: ...

    @property
    def replicate_of(self) -> str: ...


R = TypeVar("R", bound=Run)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One configuration with a finished trial."""

    name: str
    """Its trial's name; where the grid has a seed axis, the name without the seed."""
    place: int
    """Row of its first finished trial of the grid: the one that is exported."""
    score: float
    """Mean of ``scores``."""
    scores: tuple[float, ...]
    """Final objectives that it is ranked by: those with fresh seeds where there are any, else all."""
    confirmed: bool
    """Whether ``scores`` come from fresh seeds."""

    @property
    def runs(self) -> int:
        return len(self.scores)

    @property
    def deviation(self) -> float | None:
        """Return the standard deviation between seeds; None with a single run."""
        return statistics.stdev(self.scores) if self.runs > 1 else None


def setting(axes: Mapping[str, Any]) -> dict[str, Any]:
    """Return axis values without the seed: what one would choose."""
    return {axis: value for axis, value in axes.items() if axis not in SEED_AXES}


def setting_key(axes: Mapping[str, Any]) -> str:
    """Return a text that trials of one setting share, whatever their seed."""
    return json.dumps(setting(axes), sort_keys=True, default=str)


def standings(rows: Sequence[Run], *, maximize: bool) -> tuple[Standing, ...]:
    """Return the configurations with a finished trial of the grid, best first; ties keep the grid's order.

    Only completed trials with a finite objective count; a seed that was pruned or diverged is left out.
    """
    groups: dict[str, list[int]] = {}
    has_seeds = any(axis in row.axes for row in rows for axis in SEED_AXES)
    for place, row in enumerate(rows):
        if row.state == TrialState.COMPLETE and row.objective is not None and math.isfinite(row.objective):
            key = setting_key(row.axes) if has_seeds else row.replicate_of or row.fingerprint
            groups.setdefault(key, []).append(place)
    found = [_standing(rows, places) for places in groups.values()]
    sign = -1.0 if maximize else 1.0
    known = [each for each in found if each is not None]
    return tuple(sorted(known, key=lambda each: (not each.confirmed, sign * each.score)))


def counted(runs: Sequence[R]) -> list[R]:
    """Return those runs of one configuration that it is ranked by."""
    return [run for run in runs if run.replicate_of] or list(runs)


def _standing(rows: Sequence[Run], places: Sequence[int]) -> Standing | None:
    first = next((place for place in places if not rows[place].replicate_of), None)
    if first is None:
        return None
    runs = counted([rows[place] for place in places])
    scores = tuple(float(run.objective) for run in runs if run.objective is not None)
    axes = rows[first].axes
    name = cell_name(setting(axes)) if any(axis in axes for axis in SEED_AXES) else ""
    return Standing(
        name=name or rows[first].name,
        place=first,
        score=statistics.fmean(scores),
        scores=scores,
        confirmed=bool(runs[0].replicate_of),
    )
