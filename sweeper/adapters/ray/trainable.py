"""The Tune trial: one milestone per ``step``, on a gang that outlives the trial.

Tune decides between two calls of ``step``, when every rank stands at the same optimizer step, so a trial that is
ended leaves no rank inside a collective.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ray import tune

from sweeper.adapters.ray.gang import Gang, GangError
from sweeper.core.decode import encode
from sweeper.core.lifecycle import FailCause


class GangTrainable(tune.Trainable):
    """Runs the cell in its config, which ``trial_config`` makes.

    A ``step`` result holds ``measurement`` as JSON text, or ``failure`` as JSON text with ``cause`` and ``detail``.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._gang: Gang | None = None
        self._ranks = 0
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over another cell on the same, warm processes."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Advance to the next milestone.

        Raises:
            GangError: a process died; Tune runs the trial again on a fresh gang, within ``max_failures``.
        """
        try:
            if not self._is_started:
                self._start()
            assert self._gang is not None
            measurement = self._gang.advance()
        except GangError as error:
            if error.cause in (FailCause.CRASH, FailCause.HANG):
                raise
            failure = {"cause": error.cause.value, "detail": error.detail}
            return {"failure": json.dumps(failure), "done": True}
        # As text: Tune would flatten a nested result, every point of the series with it.
        return {"measurement": json.dumps(measurement), "done": bool(measurement["is_last"]), **self._timing}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Tune asks for a checkpoint before it ends a trial; an ended trial needs none."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load: where there are checkpoints of a trial that is run again, its ranks find them."""

    def cleanup(self) -> None:
        if self._gang is not None:
            self._gang.kill()

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        self._is_started = False
        self._began = time.monotonic()
        self._timing = {"gang_s": 0.0, "start_s": 0.0}

    def _start(self) -> None:
        ranks = int(self._config["trial"]["train"]["ranks"])
        if self._gang is not None and (not self._gang.alive or ranks != self._ranks):
            self._gang.kill()
            self._gang = None
        if self._gang is None:
            self._gang, self._ranks = Gang(ranks, self._config["environment"]), ranks
            self._timing["gang_s"] = time.monotonic() - self._began
        before = time.monotonic()
        self._gang.start(self._config["trial"], self._config["milestones"], self._config["checkpoints"])
        self._timing["start_s"] = time.monotonic() - before
        self._is_started = True


def trial_config(
    plain: Any,
    fingerprint: str,
    milestones: tuple[int, ...],
    environment: dict[str, str],
    checkpoints: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the config that ``GangTrainable`` takes; ``checkpoints`` holds ``root`` and ``every`` (milestones)."""
    return {
        "fingerprint": fingerprint,
        "trial": encode(plain),
        "milestones": list(milestones),
        "environment": environment,
        "checkpoints": checkpoints,
    }
