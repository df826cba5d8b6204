"""Whose gang begins next on a cluster, and when."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from sweeper.adapters.ray.cluster import Cluster
from sweeper.core.backfill import Demand, Occupied, Reservation, next_gang
from sweeper.core.config import TrialConfig
from sweeper.core.figures import plural
from sweeper.core.record import TrialInfo
from sweeper.core.search import LATER, Later
from sweeper.core.sections import Resources

ASK_AGAIN_S: Final = 1.0
"""Where nothing could begin, nothing can for a while, unless a trial ends: Tune asks ten times a second."""


class Queue(Protocol):
    """Trials that wait, and how long they may take."""

    def __call__(self, ranks: int | None = None) -> TrialInfo | Later | None:
        """Return the next trial, of a gang of so many ranks where that is said.

        ``LATER`` where that depends on one that runs or there is none of this size; None when all are handed out.
        """
        ...

    def demands(self) -> Sequence[Demand]:
        """Return the gang sizes of what waits, the one that is wanted first at the front."""
        ...

    def left_s(self, trial: TrialInfo) -> float:
        """Return how long a trial that was handed out is expected to go on."""
        ...


class Admission:
    """Takes the next trial from the queue where there is room for its gang."""

    def __init__(
        self,
        queue: Queue,
        cluster: Cluster,
        gangs: Mapping[int, TrialConfig],
        resources: Resources,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is needed; ``gangs`` has a config of every gang size, and may grow."""
        self._queue = queue
        self._cluster = cluster
        self._gangs = gangs
        self._resources = resources
        self._now_s = now_s
        self._reservation: Reservation | None = None
        self._impossible: tuple[int, ...] = ()
        self._refused: tuple[frozenset[str], float] = frozenset(), -math.inf

    @property
    def is_mixed(self) -> bool:
        """Whether gangs of several sizes share the cluster."""
        return len(self._gangs) > 1

    @property
    def passed_over(self) -> dict[str, str]:
        """Trials, in words, that wait although nothing but the cluster's size is in their way, and what they need."""
        shapes = {ranks: self._cluster.shape(self._gangs[ranks], self._resources) for ranks in self._impossible}
        return {f"a trial of {plural(ranks, 'rank')}": str(shape) for ranks, shape in shapes.items()}

    def __call__(self, live: Collection[TrialInfo]) -> TrialInfo | Later | None:
        """Return the trial that begins now, ``LATER`` where none does, None when all are handed out.

        ``live``: the trials that run, or wait on the cluster for room.
        """
        if not self.is_mixed:
            only = next(iter(self._gangs.values()))
            return self._queue() if self._cluster.has_room(len(live), only, self._resources) else LATER
        running, now_s = frozenset(trial.fingerprint for trial in live), self._now_s()
        if self._refused[0] == running and now_s < self._refused[1] + ASK_AGAIN_S:
            return LATER
        demands = self._queue.demands()
        self._impossible = tuple(each.ranks for each in demands if not self._could_hold(each.ranks))
        if not demands:
            return self._queue()
        choice = next_gang(
            demands,
            occupied=[Occupied(ranks=t.config.train.ranks, left_s=self._queue.left_s(t)) for t in live],
            shapes={ranks: self._cluster.shape(config, self._resources) for ranks, config in self._gangs.items()},
            nodes=self._cluster.nodes,
            now_s=now_s,
            reservation=self._reservation,
        )
        self._reservation = choice.reservation
        if choice.ranks is None:
            self._refused = running, now_s
            return LATER
        return self._queue(choice.ranks)

    def _could_hold(self, ranks: int) -> bool:
        return self._cluster.could_hold(self._gangs[ranks], self._resources)
