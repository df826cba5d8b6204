"""Says what a trial waits for that finds no room on the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from ray.tune.experiment import Trial

SAY_AFTER_S: Final = 30.0
"""A gang that ends frees its room within seconds; a node that was ordered takes minutes."""
SAY_AGAIN_S: Final = 600.0


class Waiting:
    """Tells the user once in a while, and nothing while all goes its usual way."""

    def __init__(
        self,
        needs: Callable[[Trial], str],
        has: Callable[[], str],
        notice: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is needed; ``needs`` tells a trial's gang, ``has`` what the cluster has."""
        self._needs = needs
        self._has = has
        self._notice = notice
        self._now_s = now_s
        self._say_at_s: dict[str, float] = {}

    def look(self, live: Iterable[Trial]) -> None:
        """Speak where a trial waits although no other runs; to be called a few times a second."""
        trials = list(live)
        waiting = {trial.trial_id: trial for trial in trials if trial.status == Trial.PENDING}
        now_s = self._now_s()
        if any(trial.status == Trial.RUNNING for trial in trials):
            waiting = {}
        self._say_at_s = {key: self._say_at_s.get(key, now_s + SAY_AFTER_S) for key in waiting}
        for key, trial in waiting.items():
            if now_s >= self._say_at_s[key]:
                self._say_at_s[key] = now_s + SAY_AGAIN_S
                self._notice(f"{trial.config['name']} waits for {self._needs(trial)}; the cluster has {self._has()}")
