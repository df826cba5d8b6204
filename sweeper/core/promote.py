"""Pause and promotion: which cell a free gang takes up next, where a trial can be paused and go on later.

Every cell is trained to a first rung, so that all give an early signal even on one gang. From there on the free gang
always takes the most promising of the paused trials one rung further, and puts it back if another has become more
promising: the best candidates reach their end first, and the pruner learns from them before the others have cost much.
Pure and deterministic: the seed settles every tie.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

import numpy as np

from sweeper.core.errors import InputError
from sweeper.core.foretell import ranks
from sweeper.core.order import MAX_OUTCOMES, Coordinates, Floats, embed, expected_goodness, tie_breaks

K = TypeVar("K", bound=Hashable)

FIRST_SHARE: Final = 0.05
"""First rung as a share of the longest training: early signals of all cells for a twentieth of the grid's cost."""
GROWTH: Final = 1.5
"""Ratio of a rung to the one before: at most 8 pauses in a trial."""
CURIOSITY: Final = 1.0
"""Standard deviations that are added to what is expected of a trial: one settles soon whether a region is any good."""


@dataclass(frozen=True, slots=True)
class Rungs:
    """Sample counts at which trials are paused: ``first``, then each ``growth`` times the one before."""

    first: float
    growth: float = GROWTH

    def __post_init__(self) -> None:
        if not self.first > 0:
            raise InputError("must be above 0", where="first", got=self.first)
        if not self.growth > 1:
            raise InputError("must be above 1", where="growth", got=self.growth)

    def next_after(self, samples: float) -> float:
        """Return the first rung above ``samples``."""
        if samples < self.first:
            return self.first
        rung = self.first * self.growth ** math.floor(math.log(samples / self.first) / math.log(self.growth))
        # The logarithm of a rung itself may fall on either side of the whole number.
        while rung <= samples:
            rung *= self.growth
        return rung


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What is known of a cell that was started."""

    early: float | None
    """Objective at the first rung, None where it was not measured by then."""
    value: float | None = None
    """Objective of one that has ended or come to rest; None while it still moves."""
    broke: bool = False
    """Whether a guard ended it."""
    runs: bool = False
    """Whether a gang works on it now: nothing is to be gained from a second one of its kind meanwhile."""


class Promotion(Generic[K]):
    """The choice among paused trials of one sweep."""

    def __init__(
        self,
        cells: Mapping[K, Coordinates],
        *,
        maximize: bool = False,
        seed: int = 0,
        start: Literal["centre", "random"] = "centre",
    ) -> None:
        """Take in every cell of the sweep by its key.

        ``start``: which trial goes on while nothing is known: the one nearest to the centre of the axes, where the best
        one is likelier than at an edge, or one drawn by the seed.
        """
        self._maximize, self._seed = maximize, seed
        self._rows = {key: row for row, key in enumerate(cells)}
        self._points = embed(list(cells.values()))
        self._ties = tie_breaks(list(cells.values()), seed)
        off_centre = np.linalg.norm(self._points - 0.5 * np.ptp(self._points, axis=0), axis=1)
        self._unknown = self._ties - (off_centre if start == "centre" else 0.0)

    def ranked(self, paused: Collection[K], standings: Mapping[K, Standing]) -> list[K]:
        """Return the paused trials, the most promising one first.

        What is expected of a trial: a Gaussian process over configuration and standing at the first rung (its rank, one
        more axis), learned from the trials that have ended or come to rest, plus ``CURIOSITY`` standard deviations, to
        which those that run count as known: several gangs spread out.

        Args:
            paused: keys to choose among.
            standings: every started cell, the paused ones included.
        """
        if not paused:
            return []
        points = self._with_standing(standings)
        rows = [self._rows[key] for key in paused]
        known = self._some([key for key, each in standings.items() if _is_known(each)])
        running = [key for key, each in standings.items() if each.runs and not _is_known(each)]
        promise = self._unknown[rows] if not known and not running else self._ties[rows]
        if known:
            values = _goodness([standings[key] for key in known], self._maximize)
            promise = promise + expected_goodness(points[[self._rows[key] for key in known]], values, points[rows])[0]
        if known or running:
            watched = points[[self._rows[key] for key in (*known, *running)]]
            promise = promise + CURIOSITY * expected_goodness(watched, np.zeros(len(watched)), points[rows])[1]
        best_first = np.argsort(-promise, kind="stable")
        keys = list(paused)
        return [keys[int(place)] for place in best_first]

    def _with_standing(self, standings: Mapping[K, Standing]) -> Floats:
        """Return the embedded cells with one more axis: rank at the first rung, 0 the best; half for the unmeasured."""
        sign = -1.0 if self._maximize else 1.0
        seen = {key: sign * s.early for key, s in standings.items() if s.early is not None and math.isfinite(s.early)}
        place = np.full(len(self._rows), 0.5)
        if len(seen) > 1:
            place[[self._rows[key] for key in seen]] = (ranks(list(seen.values())) - 1) / (len(seen) - 1)
        return np.concatenate([self._points, place[:, None]], axis=1)

    def _some(self, keys: list[K]) -> list[K]:
        if len(keys) <= MAX_OUTCOMES:
            return keys
        return random.Random(f"{self._seed} {len(keys)}").sample(keys, MAX_OUTCOMES)


def _is_known(standing: Standing) -> bool:
    return standing.broke or (standing.value is not None and math.isfinite(standing.value))


def _goodness(known: Sequence[Standing], maximize: bool) -> Floats:
    """Return 1 for the best, 0 for the median, -1 from about three times its distance on and for what broke.

    Logarithmic in the distance from the best, as the pruner sees finals: ranks would make a tie with the best out of
    any close second, and raw values would let one diverged trial flatten all others.
    """
    sign = -1.0 if maximize else 1.0
    values = [math.inf if s.broke or s.value is None else sign * s.value for s in known]
    finite = [value for value in values if math.isfinite(value)]
    best = min(finite, default=0.0)
    unit = max(statistics.median(finite) - best, 1e-12) if finite else 1.0
    behind = np.asarray([math.log2(1 + min((value - best) / unit, 3.0)) for value in values])
    return np.asarray(1.0 - behind, dtype=np.float64)


def keeps_state(samples: float, save_cost: float, restore_cost: float) -> bool:
    """Return whether a paused trial's state is worth keeping: saving and restoring it cost less than what it has done.

    All three in the same unit, e.g. seconds of a gang. Otherwise it is run again from its beginning when promoted.
    """
    return save_cost + restore_cost < samples
