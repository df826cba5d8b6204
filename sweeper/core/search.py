"""Local search on the grid, as the authors of arXiv 2412.13337 advise: start low, test the neighbours, move while it
improves; the same for every hyperparameter.

The grid says which values there are, and the search which of its cells run. Neighbours of a cell differ from it on one
axis, by one value, or on batch size and learning rate, by one value each. Pure: what to run next follows from what has
ended and what runs, so that a sweep that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeVar

from sweeper.core.decode import nearest
from sweeper.core.errors import InputError
from sweeper.core.order import Coordinates

K = TypeVar("K", bound=Hashable)

ADVICE: Final[Mapping[str, Any]] = {
    "learning_rate": 2e-5,
    "batch_size": 3840,
    "warmup_steps": 0,
    "warmup_samples": 0,
    "warmup_ratio": 0,
    "schedule": "constant",
    "data.strategy": "stacked",
}
"""Where the paper says to start: the rate and batch of its LAB preset, and what its conclusion finds as good as the
rest. Also the order in which axes are tested; others follow as the grid names them."""
TOGETHER: Final = ("batch_size", "learning_rate")
"""Axes that are moved both at once as well: the best rate often grows with the batch, and a cell on such a ridge has
no better neighbour on either axis alone. Ours; the paper tests one hyperparameter at a time."""
RULE: Final = "local_search"
"""Rule of the verdict by which a cell is never started because the search ended without it."""


class Later(Enum):
    """Nothing to start now; there may be once a trial that runs has ended."""

    LATER = "later"


LATER: Final = Later.LATER


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Which cells of the grid run; ``search: local`` alone is short for its ``method``."""

    method: Literal["grid", "local"] = "grid"
    """``grid``: all of them. ``local``: the one at ``start``, its neighbours on each axis, and on from whichever is
    better, until none is."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """Local search: where it begins, e.g. ``{learning_rate: 1e-5}``. An axis that is left out starts at its value
    nearest to the paper's (batch 3,840, rate 2e-5, no warmup, constant, stacked), any other at its first value."""
    budget: int | None = None
    """Local search: cells that are started at most; empty means as many as it takes."""

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise InputError("must be at least 1", where="budget", got=self.budget)
        for name, given in (("start", bool(self.start)), ("budget", self.budget is not None)):
            if given and not self.is_local:
                raise InputError("only local search has it", where=name, got=getattr(self, name), mend="method: local")

    @property
    def is_local(self) -> bool:
        return self.method == "local"


class LocalSearch(Generic[K]):
    """One local search over the cells that can run."""

    def __init__(
        self,
        cells: Mapping[K, Coordinates],
        *,
        start: Mapping[str, Any] | None = None,
        maximize: bool = False,
        budget: int | None = None,
    ) -> None:
        """Take in every cell of the sweep that can run, by its key, in the grid's order.

        ``start`` and ``budget`` are those of ``SearchConfig``. Where no cell lies at the start, the nearest does.

        Raises:
            InputError: ``start`` names what is no axis.
        """
        self._cells = cells
        self._maximize, self._budget = maximize, budget
        named = dict.fromkeys(name for cell in cells.values() for name in cell)
        self._axes = [*(name for name in ADVICE if name in named), *(name for name in named if name not in ADVICE)]
        for name in start or {}:
            if name not in named:
                raise InputError("is no axis of the grid", where="start", got=name, mend=nearest(name, named))
        self._lines: dict[tuple[str, str], list[K]] = {}
        for key, cell in cells.items():
            for axis in self._axes:
                self._lines.setdefault(_line(cell, axis), []).append(key)
        self._by_distance = self._from({**ADVICE, **(start or {})})

    @property
    def first(self) -> tuple[K, ...]:
        """The cells that are tested whatever comes out of them: the first one, then its neighbours."""
        return (self._by_distance[0], *self._neighbours(self._by_distance[0], {})) if self._by_distance else ()

    def next(self, waiting: Collection[K], running: Collection[K], ended: Mapping[K, float | None]) -> K | Later | None:
        """Return the cell to start next, ``LATER``, or None where the search has ended.

        The best trial that ran to its end is the centre; its neighbours are tested one after another, first those on
        the far side of one that is worse. A trial that was ended early is no better than the centre.

        Args:
            waiting: cells that have not been started.
            running: cells that have been started and not ended.
            ended: final objective of each cell that was started and has ended; None or not finite where it has none.
        """
        if self._budget is None or len(running) + len(ended) < self._budget:
            found = next((key for key in self._candidates(running, ended) if key in waiting), None)
            if found is not None:
                return found
        return LATER if running else None

    def best(self, ended: Mapping[K, float | None]) -> K | None:
        """Return the best cell that ran to its end, of equals the one nearest to the start; None if there is none."""
        finals = {key: value for key in self._by_distance if (value := _finite(ended.get(key))) is not None}
        if not finals:
            return None
        return max(finals, key=finals.__getitem__) if self._maximize else min(finals, key=finals.__getitem__)

    def reason(self, ended: Mapping[K, float | None], name: Callable[[K], str]) -> str:
        """Return why the cells that still wait are never started, once the search has ended."""
        best = self.best(ended)
        found = "no trial ran to its end" if best is None else f"{name(best)} is the best"
        if self._budget is not None and len(ended) >= self._budget:
            return f"never started: local search has run the {self._budget} cells of its budget; {found}"
        if best is None:
            return f"never started: local search has ended; {found}"
        return f"never started: local search ended at {name(best)}, which no neighbour of it betters"

    def _candidates(self, running: Collection[K], ended: Mapping[K, float | None]) -> Iterator[K]:
        centre = self.best(ended)
        if centre is not None:
            yield from self._neighbours(centre, ended)
            return
        yield from self.first
        if ended and not running:  # all of these broke: on to wherever a trial survives
            yield from self._by_distance

    def _neighbours(self, centre: K, ended: Mapping[K, float | None]) -> list[K]:
        """Return the neighbours in the order in which they are tested: first on the far side of one that has ended."""
        onward: list[K] = []
        others: list[K] = []
        for axis in self._axes:
            below, above = self._beside(centre, axis)
            is_half_known = any(key in ended for key in below) != any(key in ended for key in above)
            (onward if is_half_known else others).extend(below + above)
        return list(dict.fromkeys(onward + others + self._diagonal(centre)))

    def _beside(self, centre: K, axis: str) -> tuple[list[K], list[K]]:
        """Return the next cell below and the next above on a numeric axis; on another one, the others and none."""
        line = self._lines[_line(self._cells[centre], axis)]
        if not all(_is_number(self._cells[key].get(axis)) for key in line):
            return [key for key in line if key != centre], []
        line = sorted(line, key=lambda key: float(self._cells[key][axis]))
        place = line.index(centre)
        return line[max(place - 1, 0) : place], line[place + 1 : place + 2]

    def _diagonal(self, centre: K) -> list[K]:
        """Return the cells one value of batch size and one of learning rate away, both the same way first."""
        if not all(axis in self._axes for axis in TOGETHER):
            return []
        batch, rate = TOGETHER
        same: list[K] = []
        opposite: list[K] = []
        for side in (0, 1):
            for moved in self._beside(centre, batch)[side]:
                beside = self._beside(moved, rate)
                same += beside[side]
                opposite += beside[1 - side]
        return same + opposite

    def _from(self, wanted: Mapping[str, Any]) -> list[K]:
        """Return all cells, the one nearest to the wanted values first: fewest values away, summed over the axes."""
        steps = dict.fromkeys(self._cells, 0)
        for axis in self._axes:
            distinct = {json.dumps(cell.get(axis), sort_keys=True): cell.get(axis) for cell in self._cells.values()}
            target = wanted.get(axis, next(iter(distinct.values())))
            away = dict(zip(distinct, _distances(list(distinct.values()), target), strict=True))
            place = {text: rank for rank, text in enumerate(sorted(distinct, key=away.__getitem__))}
            for key, cell in self._cells.items():
                steps[key] += place[json.dumps(cell.get(axis), sort_keys=True)]
        return sorted(steps, key=steps.__getitem__)


def _line(cell: Coordinates, axis: str) -> tuple[str, str]:
    """Return what the cells share that differ on this axis alone."""
    return axis, json.dumps({name: value for name, value in cell.items() if name != axis}, sort_keys=True, default=str)


def _distances(values: Sequence[Any], wanted: Any) -> list[float]:
    """Return how far each value of an axis lies from the wanted one.

    By ratio where all are above 0, by difference for other numbers, 0 or 1 for what is no number.
    """
    if not all(_is_number(value) for value in (*values, wanted)):
        return [float(value != wanted) for value in values]
    if min(*values, wanted) > 0:
        return [abs(math.log(value / wanted)) for value in values]
    return [abs(float(value) - wanted) for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
