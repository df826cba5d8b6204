"""A gang: one rank actor per bundle of the placement group that Tune reserved for the trial."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweeper.adapters.ray.rank import Rank
from sweeper.core.errors import SweeperError
from sweeper.core.lifecycle import FailCause

CONNECT_TIMEOUT_S = 300.0
"""Import of torch and transformers on all ranks of a cold, slow node, and the rendezvous."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class GangError(SweeperError):
    """A trial ended with an error on a rank; the gang is broken and must be replaced."""

    def __init__(self, cause: FailCause, detail: str) -> None:
        self.cause = cause
        self.detail = detail
        super().__init__(cause, detail)

    def __str__(self) -> str:
        lines = self.detail.strip().splitlines()
        return f"{self.cause.value}: {lines[-1] if lines else 'no detail'}"


class Gang:
    """Processes that train one trial after another. After any error the gang is dead and ``alive`` is False."""

    def __init__(self, ranks: int, environment: dict[str, str]) -> None:
        """Start the ranks inside the caller's placement group: bundle 0 is the trial actor's, then one per rank."""
        group = ray.util.get_current_placement_group()
        actor = ray.remote(Rank)
        self._ranks = []
        for rank in range(ranks):
            bundle = group.bundle_specs[rank + 1]
            self._ranks.append(
                actor.options(
                    num_cpus=bundle.get("CPU", 0),
                    num_gpus=bundle.get("GPU", 0),
                    scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank + 1),
                ).remote(rank, ranks, environment)
            )
        self.alive = True
        init_method = self._call([self._ranks[0].endpoint.remote()], CONNECT_TIMEOUT_S)[0]
        self._call([rank.connect.remote(init_method) for rank in self._ranks], CONNECT_TIMEOUT_S)

    def start(self, config: dict[str, Any], milestones: Sequence[int], checkpoints: dict[str, Any] | None) -> None:
        """Begin a trial on all ranks, or go on with it where there is a checkpoint of it.

        Raises:
            GangError: a rank failed or died.
        """
        self._call([rank.start.remote(config, tuple(milestones), checkpoints) for rank in self._ranks])

    def advance(self) -> dict[str, Any]:
        """Bring all ranks to the next milestone and return rank 0's measurement.

        Raises:
            GangError: a rank failed or died.
        """
        measurement: dict[str, Any] = self._call([rank.advance.remote() for rank in self._ranks])[0]
        return measurement

    def kill(self) -> None:
        """End all ranks at once; safe to repeat."""
        self.alive = False
        for rank in self._ranks:
            ray.kill(rank)

    def _call(self, calls: list[ray.ObjectRef], timeout_s: float | None = None) -> list[Any]:
        try:
            return list(ray.get(calls, timeout=timeout_s))
        except RayError as error:
            failure = _explain(calls, error)
            self.kill()
            raise failure from error


def _explain(calls: list[ray.ObjectRef], first: RayError) -> GangError:
    """Return what really broke the gang.

    When one rank dies, the others fail a moment later with a lost connection, and either error may come first.
    """
    errors: list[RayError] = [first]
    ray.wait(calls, num_returns=len(calls), timeout=2.0)
    for call in calls:
        try:
            ray.get(call, timeout=0)
        except GetTimeoutError:
            continue
        except RayError as error:
            errors.append(error)
    died = [error for error in errors if isinstance(error, RayActorError)]
    if died:
        return GangError(FailCause.CRASH, str(died[0]))
    raised = [error for error in errors if isinstance(error, RayTaskError)]
    own = [error for error in raised if not _is_lost_connection(error)]
    if own or raised:
        return GangError(_cause((own or raised)[0]), _COLOURS.sub("", str((own or raised)[0])))
    return GangError(FailCause.HANG if isinstance(first, GetTimeoutError) else FailCause.CRASH, str(first))


def _is_lost_connection(error: RayTaskError) -> bool:
    text = str(error.cause)
    return type(error.cause).__name__ == "DistBackendError" or "Connection closed by peer" in text


def _cause(error: RayTaskError) -> FailCause:
    names = {cls.__name__ for cls in type(error.cause).__mro__}
    if names & {"OutOfMemory", "OutOfMemoryError", "MemoryError"}:
        return FailCause.OOM
    if "InputError" in names:
        return FailCause.DATA
    return FailCause.USER_CODE
