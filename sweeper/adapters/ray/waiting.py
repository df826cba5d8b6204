"""Says what trials wait for that find no room on the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
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
        could_run: Callable[[Trial], bool],
        notice: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is needed.

        Args:
            needs: tells a trial's gang.
            has: tells what the cluster has.
            could_run: whether a trial's gang would fit if nothing ran.
            notice: shows a line.
            now_s: any clock.
        """
        self._needs = needs
        self._has = has
        self._could_run = could_run
        self._notice = notice
        self._now_s = now_s
        self._say_at_s: dict[str, float] = {}

    def look(self, live: Iterable[Trial], passed_over: Mapping[str, str]) -> None:
        """Speak where a trial waits that will not find room once others end; to be called a few times a second.

        ``passed_over``: others that Tune does not know of, and what their gangs need.
        """
        trials, now_s = list(live), self._now_s()
        is_idle = not any(trial.status == Trial.RUNNING for trial in trials)
        pending = [trial for trial in trials if trial.status == Trial.PENDING]
        stuck = [trial for trial in pending if is_idle or not self._could_run(trial)]
        waiting = {trial.config["name"]: self._needs(trial) for trial in stuck} | dict(passed_over)
        self._say_at_s = {name: self._say_at_s.get(name, now_s + SAY_AFTER_S) for name in waiting}
        for name, needs in waiting.items():
            if now_s >= self._say_at_s[name]:
                self._say_at_s[name] = now_s + SAY_AGAIN_S
                self._notice(f"{name} waits for {needs}; the cluster has {self._has()}")
