"""Watches over trial actors from the driver: one that is silent for longer than its gang may be is killed.

A gang that hangs is ended by its trial's actor. Nobody in the cluster would notice if that actor itself were stopped,
or the network to it swallowed packets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import ray
from ray.tune.experiment import Trial

from sweeper.adapters.ray.gang import CONNECT_TIMEOUT_S

GRACE_S: Final = 30.0
"""A trial's actor needs this long at most to end a gang that hangs, and to say so."""
RESET_LIMIT_S: Final = 60.0
"""Handing a cell to a warm actor takes milliseconds."""


class Sentry:
    """Kills silent actors; Tune then runs their trials again, as after any crash."""

    def __init__(
        self,
        hang_limit_s: float,
        kill: Callable[[Any], None] = ray.kill,
        now_s: Callable[[], float] = time.monotonic,
        *,
        saves_first: bool = False,
    ) -> None:
        """Keep what is needed; ``saves_first``: an actor may have a trial's state to write before it takes the next."""
        self._reset_limit_s = RESET_LIMIT_S + (hang_limit_s if saves_first else 0.0)
        self._hang_limit_s = hang_limit_s
        self._kill = kill
        self._now_s = now_s
        self._deadlines: dict[tuple[str, bool], float] = {}
        self._silent: set[str] = set()

    def look(self, live: Iterable[Trial], resetting: Iterable[Trial]) -> None:
        """Kill the actors that are overdue; to be called a few times a second.

        Args:
            live: trials that have not ended.
            resetting: those of them that are being handed to a warm actor.
        """
        now_s, handed_over = self._now_s(), {trial.trial_id for trial in resetting}
        known, self._deadlines = self._deadlines, {}
        for trial in live:
            key = trial.trial_id, trial.trial_id in handed_over
            if key[1] or trial.status == Trial.RUNNING:
                self._deadlines[key] = known.get(key, now_s + self._first_limit_s(is_reset=key[1]))
                if self._deadlines[key] < now_s and trial.temporary_state.ray_actor is not None:
                    self._silent.add(trial.trial_id)
                    self._deadlines[key] = now_s + GRACE_S
                    self._kill(trial.temporary_state.ray_actor)

    def heard(self, trial: Trial, result: dict[str, Any]) -> None:
        """A trial's actor has reported."""
        limit_s = float(result.get("limit_s", self._hang_limit_s))
        self._deadlines[trial.trial_id, False] = self._now_s() + limit_s + GRACE_S

    def was_silent(self, trial: Trial) -> bool:
        """Return whether this trial's actor was killed for its silence since this was last asked."""
        was = trial.trial_id in self._silent
        self._silent.discard(trial.trial_id)
        return was

    def _first_limit_s(self, *, is_reset: bool) -> float:
        if is_reset:
            return self._reset_limit_s
        # A cold gang, its rendezvous, the trial's start and its first milestone.
        return 2 * CONNECT_TIMEOUT_S + 2 * self._hang_limit_s + GRACE_S
