"""How long trials take by the size of their gangs, and which size is wanted first. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.core.backfill import Demand


class Durations:
    """Seconds per sample, as all trials of each gang size together have shown."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, float]] = {}

    def measured(self, key: str, ranks: int, samples_seen: int, seconds: float) -> None:
        """A trial has trained so far, from its beginning."""
        self._seen[key] = ranks, samples_seen, seconds

    def expected_s(self, ranks: int, samples: int) -> float:
        """Return how long so many samples take a gang of this size; infinite while nothing was measured.

        A size that was not measured is taken to be as fast per rank as the one nearest to it.
        """
        paces = self._paces()
        if not paces:
            return math.inf
        known = min(paces, key=lambda each: (abs(math.log(each / ranks)), each))
        return samples * paces[known] * known / ranks

    def length(self, ranks: int, samples: int) -> float:
        """Return what trials are compared by, in units of their own while nothing was measured."""
        found = self.expected_s(ranks, samples)
        return samples / ranks if math.isinf(found) else found

    def _paces(self) -> dict[int, float]:
        sums: dict[int, tuple[int, float]] = {}
        for ranks, samples, seconds in self._seen.values():
            before = sums.get(ranks, (0, 0.0))
            sums[ranks] = before[0] + samples, before[1] + seconds
        return {ranks: seconds / samples for ranks, (samples, seconds) in sums.items() if samples}


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A trial that waits."""

    turn: int
    """Trials of a lower one come first, whatever their length."""
    ranks: int
    samples: int
    """That it is to train on."""


def longest_first(waiting: Iterable[Waiting], durations: Durations) -> list[Demand]:
    """Return what waits by gang size, the size wanted first at the front.

    Sizes that have a trial of a lower turn come first, then those of which a trial takes longest, then larger ones. Of
    each size only the trials of its lowest turn count, for they come next.
    """
    next_up: dict[int, tuple[int, int]] = {}
    for each in waiting:
        turn, samples = next_up.get(each.ranks, (each.turn, 0))
        if each.turn < turn:
            turn, samples = each.turn, 0
        next_up[each.ranks] = turn, max(samples, each.samples if each.turn == turn else 0)
    order = sorted(next_up, key=lambda r: (next_up[r][0], -durations.length(r, next_up[r][1]), -r))
    return [Demand(ranks=each, longest_s=durations.expected_s(each, next_up[each][1])) for each in order]
