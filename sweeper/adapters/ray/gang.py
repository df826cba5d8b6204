"""A gang: rank actors in the bundles of the placement group that Tune reserved for the trial."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweeper.adapters.ray.faults import explain
from sweeper.adapters.ray.rank import Rank

CONNECT_TIMEOUT_S = 300.0
"""Import of torch and transformers on all ranks of a cold, slow node, and the rendezvous."""
CLOSE_TIMEOUT_S = 20.0
"""A trainer of the user's own has 10 s to leave when it is told to, and 3 s more when it is asked by a signal."""


class Gang:
    """Processes that train one trial after another. After any error the gang is dead and ``alive`` is False."""

    def __init__(self, ranks: int, processes_per_bundle: int, environment: dict[str, str]) -> None:
        """Start the ranks inside the caller's placement group, in its bundles from the first on.

        Raises:
            GangError: a rank died, or they did not find each other within ``CONNECT_TIMEOUT_S``.
        """
        group = ray.util.get_current_placement_group()
        actor = ray.remote(Rank)
        self._ranks = []
        for rank in range(ranks):
            index = rank // processes_per_bundle
            bundle = group.bundle_specs[index]
            self._ranks.append(
                actor.options(
                    num_cpus=bundle.get("CPU", 0) / processes_per_bundle,
                    num_gpus=bundle.get("GPU", 0) / processes_per_bundle,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(group, index),
                ).remote(rank, ranks, environment)
            )
        self.alive = True
        init_method = self._call([self._ranks[0].endpoint.remote()], CONNECT_TIMEOUT_S)[0]
        self._call([rank.connect.remote(init_method) for rank in self._ranks], CONNECT_TIMEOUT_S)

    def start(
        self, config: dict[str, Any], milestones: Sequence[int], checkpoints: dict[str, Any] | None, limit_s: float
    ) -> int:
        """Begin a trial on all ranks, or go on with it where there is a checkpoint; return the milestones passed.

        Raises:
            GangError: a rank failed or died, or took longer than ``limit_s``.
        """
        calls = [rank.start.remote(config, tuple(milestones), checkpoints) for rank in self._ranks]
        return int(self._call(calls, limit_s)[0])

    def advance(self, limit_s: float) -> dict[str, Any]:
        """Bring all ranks to the next milestone and return rank 0's measurement.

        Raises:
            GangError: a rank failed or died, or took longer than ``limit_s``.
        """
        measurement: dict[str, Any] = self._call([rank.advance.remote() for rank in self._ranks], limit_s)[0]
        return measurement

    def keep(self, limit_s: float) -> None:
        """Write a checkpoint at the milestone where all ranks stand; raises as ``advance`` does."""
        self._call([rank.keep.remote() for rank in self._ranks], limit_s)

    def pause(self, root: str, limit_s: float) -> bool:
        """Write the trial's state under ``root``; False where it could not be written; raises as ``advance`` does."""
        return all(self._call([rank.pause.remote(root) for rank in self._ranks], limit_s))

    def state_bytes(self, limit_s: float) -> int:
        """Return what ``pause`` would write, at most; raises as ``advance`` does."""
        return int(self._call([self._ranks[0].state_bytes.remote()], limit_s)[0])

    def close(self) -> None:
        """Let the trial's own processes leave, as far as they do so in time; to be called before ``kill``."""
        with contextlib.suppress(RayError):
            ray.get([rank.close.remote() for rank in self._ranks], timeout=CLOSE_TIMEOUT_S)

    def kill(self) -> None:
        """End all ranks at once; safe to repeat."""
        self.alive = False
        for rank in self._ranks:
            ray.kill(rank)

    def _call(self, calls: list[ray.ObjectRef], limit_s: float) -> list[Any]:
        try:
            return list(ray.get(calls, timeout=limit_s))
        except RayError as error:
            failure = explain(calls, error, limit_s)
            self.kill()
            raise failure from error
