"""The sections of a search space that say how its sweep is run; none of them touches a trial's numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweeper.core.address import refuse_password
from sweeper.core.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderConfig:
    """In which order cells run."""

    calibration: int = 4
    """Cells, spread over the whole grid, that run first and to their end; only guards may end them. None with ``mode:
    promote``."""
    seed: int = 0
    """Seed of the order."""

    def __post_init__(self) -> None:
        if self.calibration < 0:
            raise InputError("must be at least 0", where="calibration", got=self.calibration)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one rank occupies on the cluster."""

    cpus_per_rank: float = 1.0
    """CPU slots of one rank."""
    gpus_per_rank: float | None = None
    """GPUs of one rank; empty means 1 where the cluster has GPUs, else 0."""
    nodes_per_trial: int | None = None
    """Nodes over which a trial's ranks are spread evenly; 1 keeps them on one node. Empty means as few as there is room
    on."""
    max_failures: int = 1
    """How often a trial is tried again after its processes died or hung."""
    hang_limit_s: float = 7200.0
    """Seconds after which a gang that has not reached its first milestone is taken to hang. It is ended, and the trial
    tried again. For later milestones the limit is five times the trial's own slowest pace."""
    checkpoint_every: int | None = None
    """Milestones between checkpoints from which a trial goes on that is run again, after its processes died or the
    sweep was interrupted. Empty means none: it starts from its beginning. The sweep's folder must then lie on a disk
    that all nodes see; each running trial keeps its last two checkpoints there, 12 bytes per weight each, until it
    ends."""
    keep_pruned: int = 0
    """Pruned trials, the latest so many, whose checkpoints stay, so that ``sweeper unprune`` need not begin anew."""
    paused_memory_gib: float = 0.0
    """With ``mode: promote``: host memory that the states of paused trials may take, all together, in ``/dev/shm``.
    Needs a cluster of one machine, the one that drives the sweep."""
    paused_disk_gib: float = 20.0
    """With ``mode: promote``: what the states of paused trials may take in the sweep's folder, all together; 12 bytes
    per trained weight each. What fits neither here nor in memory is trained again when it is promoted, the least
    promising first. The sweep's folder must lie on a disk that all nodes see."""

    def __post_init__(self) -> None:
        if self.cpus_per_rank <= 0:
            raise InputError("must be above 0", where="cpus_per_rank", got=self.cpus_per_rank)
        if self.gpus_per_rank is not None and self.gpus_per_rank < 0:
            raise InputError("must be at least 0", where="gpus_per_rank", got=self.gpus_per_rank)
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise InputError("must be at least 1", where="checkpoint_every", got=self.checkpoint_every)
        if self.max_failures < 0:
            raise InputError("must be at least 0", where="max_failures", got=self.max_failures)
        if self.nodes_per_trial is not None and self.nodes_per_trial < 1:
            raise InputError("must be at least 1", where="nodes_per_trial", got=self.nodes_per_trial)
        for name in ("paused_memory_gib", "paused_disk_gib"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError("must be at least 0", where=name, got=getattr(self, name))
        if self.keep_pruned < 0:
            raise InputError("must be at least 0", where="keep_pruned", got=self.keep_pruned)
        if self.keep_pruned and self.checkpoint_every is None:
            raise InputError("needs checkpoint_every", where="keep_pruned", got=self.keep_pruned)
        if self.hang_limit_s <= 0:
            raise InputError("must be above 0", where="hang_limit_s", got=self.hang_limit_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracking:
    """Where the record is kept. Both default to files in the sweep's folder."""

    mlflow: str | None = None
    """MLflow tracking URI, e.g. of a server or of a PostgreSQL database. A password comes from the environment."""
    study: str | None = None
    """Optuna storage URL, e.g. of a PostgreSQL database. A password comes from the environment."""

    def __post_init__(self) -> None:
        for name in ("mlflow", "study"):
            refuse_password(getattr(self, name) or "", where=name)
