"""The Tune trial: one milestone per ``step``, on a gang that outlives the trial.

Tune decides between two calls of ``step``, when every rank stands at the same optimizer step, so a trial that is
ended leaves no rank inside a collective.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from ray import tune

from sweeper.adapters.ray.faults import GangError
from sweeper.adapters.ray.gang import Gang
from sweeper.adapters.ray.pace import Pace
from sweeper.adapters.ray.states import size_of
from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode, encode
from sweeper.core.program import processes_of


class Saved(NamedTuple):
    """How a trial's state was written."""

    is_whole: bool
    seconds: float
    num_bytes: int


class GangTrainable(tune.Trainable):
    """Runs the cell in its config, which ``trial_config`` makes.

    A ``step`` result holds ``measurement`` as JSON text, or ``failure`` as JSON text with ``cause`` and ``detail``; and
    ``limit_s``, how long the next one may take, ``torn``, the checkpoints that had to be set aside, and where the trial
    may be paused ``state_bytes``, what its state takes at most.
    """

    _state_bytes: int

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
            GangError: the machine is to blame; Tune runs the trial again on a fresh gang, within ``max_failures``.
        """
        try:
            if not self._is_started:
                self._start()
            assert self._gang is not None
            measurement = self._gang.advance(self._pace.depart())
            if self._config["is_pausable"] and not self._state_bytes:
                self._state_bytes = self._gang.state_bytes(self._pace.first_limit_s)
        except GangError as error:
            if error.is_retried:
                raise
            failure = {"cause": error.cause.value, "detail": error.detail}
            return {"failure": json.dumps(failure), "done": True}
        self._pace.arrived(measurement)
        return {
            # As text: Tune would flatten a nested result, every point of the series with it.
            "measurement": json.dumps(measurement),
            "done": bool(measurement["is_last"]),
            "limit_s": self._pace.limit_s,
            "torn": self._torn,
            "state_bytes": self._state_bytes,
            **self._timing,
        }

    def keep(self) -> None:
        """Write a checkpoint of the trial where it stands, between two steps, and return when it is complete."""
        if self._gang is not None and self._is_started:
            self._gang.keep(self._pace.first_limit_s)

    def pause(self, root: str) -> Saved:
        """Write the trial's state under ``root`` before the gang is given to another one."""
        assert self._gang is not None
        began = time.monotonic()
        is_whole = self._gang.pause(root, self._pace.first_limit_s)
        return Saved(is_whole, time.monotonic() - began, size_of(Path(root)))

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Tune asks for a checkpoint before it ends a trial; an ended trial needs none."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load: where there are checkpoints of a trial that is run again, its ranks find them."""

    def cleanup(self) -> None:
        if self._gang is not None:
            if self._config["trial"]["trial"] is not None:
                self._gang.close()
            self._gang.kill()

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        self._pace = Pace(decode(TrialConfig, config["trial"]), config["milestones"], config["hang_limit_s"])
        self._is_started = False
        self._state_bytes = 0
        self._began = time.monotonic()
        self._timing: dict[str, float] = {"gang_s": 0.0, "start_s": 0.0}
        self._torn: list[str] = []

    def _start(self) -> None:
        while True:
            gang = self._warm_gang()
            before = time.monotonic()
            trial, milestones, checkpoints = (self._config[key] for key in ("trial", "milestones", "checkpoints"))
            try:
                passed = gang.start(trial, milestones, checkpoints, self._pace.first_limit_s)
            except GangError as error:
                if error.torn is None:
                    raise
                self._torn.append(set_aside(Path(error.torn)))
                continue
            self._timing["start_s"] = time.monotonic() - before
            self._pace.begin(passed)
            self._is_started = True
            return

    def _warm_gang(self) -> Gang:
        ranks = processes_of(decode(TrialConfig, self._config["trial"]))
        if self._gang is not None and (not self._gang.alive or ranks != self._ranks):
            self._gang.kill()
            self._gang = None
        if self._gang is None:
            self._gang = Gang(ranks, self._config["processes_per_bundle"], self._config["environment"])
            self._ranks = ranks
            self._timing["gang_s"] = time.monotonic() - self._began
        return self._gang


def set_aside(checkpoint: Path) -> str:
    """Take a torn checkpoint out of the way, and return where it lies; it goes with its trial's other checkpoints."""
    number = 1
    while (aside := checkpoint.with_name(f".torn-{number}.{checkpoint.name}")).exists():
        number += 1
    os.replace(checkpoint, aside)
    return str(aside)


def trial_config(
    plain: Any,
    fingerprint: str,
    name: str,
    milestones: tuple[int, ...],
    environment: dict[str, str],
    checkpoints: dict[str, Any] | None,
    hang_limit_s: float,
    processes_per_bundle: int,
    is_pausable: bool = False,
) -> dict[str, Any]:
    """Return the config that ``GangTrainable`` takes; ``checkpoints`` is what ``Rank.start`` takes."""
    return {
        "fingerprint": fingerprint,
        "name": name,
        "trial": encode(plain),
        "milestones": list(milestones),
        "environment": environment,
        "checkpoints": checkpoints,
        "hang_limit_s": hang_limit_s,
        "processes_per_bundle": processes_per_bundle,
        "is_pausable": is_pausable,
    }
