"""The decisions of a sweep in mode ``promote``, event by event: who is paused at a rung, and who goes on.

A live sweep and a replayed one tell it the same events and get the same answers; what a pause costs and where a state
lies is none of its business.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from sweeper.core.promote import Promotion, Rungs, Standing
from sweeper.core.verdict import Verdict

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)


class LookAt(Protocol[K_contra]):
    """Tells what is known of a started trial now."""

    def __call__(self, key: K_contra, /, *, runs: bool, broke: bool) -> Standing: ...


class Promoter(Generic[K]):
    """Keeps which trials run, rest and have ended, and chooses among those that rest."""

    def __init__(
        self,
        promotion: Promotion[K],
        rungs: Rungs,
        *,
        look_at: LookAt[K],
        reconsider: Callable[[K], Verdict],
        end: Callable[[K, Verdict], None],
    ) -> None:
        """Begin with a sweep of which nothing has been started.

        Args:
            promotion: the choice among paused trials.
            rungs: where trials are paused.
            look_at: what is known of a started trial.
            reconsider: asks the pruner about a paused trial once more.
            end: ends a paused trial by the verdict that condemns it; must call ``ended``.
        """
        self._promotion = promotion
        self._rungs = rungs
        self._look_at = look_at
        self._reconsider = reconsider
        self._end = end
        self._targets: dict[K, float] = {}
        """The rung at which each running trial is paused."""
        self._paused: dict[K, None] = {}
        self._asked: dict[K, int] = {}
        """How many trials had ended when the pruner was last asked about each."""
        self._standings: dict[K, Standing] = {}
        self._ended: set[K] = set()
        self._broken: set[K] = set()

    @property
    def unended(self) -> frozenset[K]:
        """The trials that run or rest."""
        return frozenset(self._targets) | frozenset(self._paused)

    def asked_after(self, key: K) -> int:
        """Return how many trials had ended when the pruner was last asked about this one."""
        return self._asked[key]

    def runs(self, key: K, samples: float) -> None:
        """A gang takes up a trial that has trained so far: 0 for one that begins."""
        self._paused.pop(key, None)
        self._targets[key] = self._rungs.next_after(samples)
        self._note(key)

    def measured(self, key: K, samples: float) -> bool:
        """A running trial was judged and goes on; return whether it stands at its rung."""
        self._asked[key] = len(self._ended)
        return samples >= self._targets[key]

    def rests(self, key: K, *, asked_after: int | None = None) -> None:
        """A trial is paused; ``asked_after``: where an earlier process saw that, what it knew then."""
        if asked_after is not None:
            self._asked[key] = asked_after
        self._paused[key] = None
        self._note(key)

    def ended(self, key: K, *, broke: bool) -> None:
        """A started trial has ended; ``broke``: by a guard."""
        self._targets.pop(key, None)
        self._paused.pop(key, None)
        self._ended.add(key)
        if broke:
            self._broken.add(key)
        self._note(key)

    def failed(self, key: K) -> None:
        """A trial could not be run to a verdict: nothing is learned from it."""
        self._targets.pop(key, None)
        self._paused.pop(key, None)
        self._standings.pop(key, None)

    def promise(self) -> list[K]:
        """Return the paused trials, the most promising one first."""
        return self._promotion.ranked(list(self._paused), self._standings)

    def next(self, admits: Callable[[K], bool] = lambda key: True) -> K | None:
        """Return the most promising paused trial that the pruner does not end now; end those that it does.

        It is asked again only where a trial has ended since. The answer stays paused until it ``runs``. ``admits``:
        which of them come into question; the others are not asked about.
        """
        for key in filter(admits, self.promise()):
            if self._asked[key] == len(self._ended):
                return key
            self._asked[key] = len(self._ended)
            verdict = self._reconsider(key)
            if not verdict.prunes:
                return key
            self._end(key, verdict)
        return None

    def _note(self, key: K) -> None:
        runs = key not in self._ended and key not in self._paused
        self._standings[key] = self._look_at(key, runs=runs, broke=key in self._broken)


def arrival(cells: int, seed: int) -> list[int]:
    """Return the order in which so many cells are trained to their first rung, by their places in the grid."""
    order = list(range(cells))
    random.Random(seed).shuffle(order)
    return order
