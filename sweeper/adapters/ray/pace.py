"""Times a trial's own milestones, to know when its gang hangs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.core.config import TrialConfig
from sweeper.core.watchdog import Stretch, samples_ahead, time_limit_s


class Pace:
    """One trial's speed on one gang; a gang that was replaced begins anew."""

    def __init__(self, config: TrialConfig, milestones: Sequence[int], first_limit_s: float) -> None:
        self.first_limit_s = first_limit_s
        self._config = config
        self._milestones = tuple(milestones)
        self._samples_seen = 0
        self._metrics: set[str] = set()
        self._past: list[Stretch] = []
        self._mark_s = time.monotonic()

    def begin(self, passed: int) -> None:
        """The gang begins to train, with so many milestones behind it."""
        self._samples_seen = self._milestones[passed - 1] if passed else 0

    def depart(self) -> float:
        """The gang sets out for its next milestone now; return how long it may take."""
        self._mark_s = time.monotonic()
        return self.limit_s

    def arrived(self, measurement: Mapping[str, Any]) -> None:
        """The gang came to a milestone just now."""
        samples_seen = int(measurement["samples_seen"])
        self._metrics |= set(self._metrics_ahead())
        samples = max(samples_seen - self._samples_seen, 1)
        self._past.append(Stretch(samples=samples, seconds=time.monotonic() - self._mark_s))
        self._samples_seen = samples_seen

    @property
    def limit_s(self) -> float:
        """How long the next milestone may take."""
        ahead = samples_ahead(self._samples_seen, self._milestones, self._config.train.batch_size)
        is_new_work = bool(set(self._metrics_ahead()) - self._metrics)
        return time_limit_s(self._past, ahead, first_limit_s=self.first_limit_s, is_new_work=is_new_work)

    def _metrics_ahead(self) -> tuple[str, ...]:
        """Return what is measured at the end of the stretch that is ahead."""
        ahead = samples_ahead(self._samples_seen, self._milestones, self._config.train.batch_size)
        before, after = (
            sum(milestone <= seen for milestone in self._milestones)
            for seen in (self._samples_seen, self._samples_seen + ahead)
        )
        is_last = after == len(self._milestones)
        if self._config.trial is not None:
            # What a trainer of the user's own does after its last step, nobody knows: it may write a model.
            return ("end",) if is_last else ()
        return self._config.eval.metrics_between(before, after, is_last=is_last)
