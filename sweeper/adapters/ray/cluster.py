"""A Ray cluster to run on: one started in this process, or one that exists."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sweeper.adapters.ray.address import refuse_client
from sweeper.adapters.ray.versions import refuse_other_versions
from sweeper.core.config import TrialConfig
from sweeper.core.errors import InputError
from sweeper.core.figures import plural
from sweeper.core.gang_shape import GangShape, NodeSize, gangs_that_fit, shape_of
from sweeper.core.program import processes_of
from sweeper.core.sections import Resources

# Read by Ray when it is imported or started, so they are set before either.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing phones home
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer progress table ignores verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the study is the record; Tune's own files would be a second one
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # a cell is chosen when a gang is free, not sixteen cells ahead
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: see interrupt.py
    "TUNE_FORCE_TRIAL_CLEANUP_S": "60",  # an actor that does not end when told to would hold its gang for ten minutes
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's snapshot is never read: resume reads the study
}


_BEYOND_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""At 0 Ray takes 127.0.0.1 for its node's address, on any system, and its servers listen there alone. Without it they
listen on all addresses, also when they are told 127.0.0.1 (Ray 2.60)."""

_FOLDER_PREFIX = "sweeper-ray-"
_NODES_LAST_S = 5.0


class Cluster:
    """What a running cluster offers to gangs, now: nodes come and go."""

    def __init__(
        self, nodes: Callable[[], Sequence[NodeSize]], is_this_machine: Callable[[], bool] = lambda: True
    ) -> None:
        """Ask ``nodes`` for the nodes that are alive, every few seconds at most.

        ``is_this_machine``: whether all of them are the machine on which this process runs.
        """
        self._is_this_machine = is_this_machine
        self._ask = nodes
        self._asked_s = -math.inf
        self._nodes: tuple[NodeSize, ...] = ()

    @property
    def nodes(self) -> tuple[NodeSize, ...]:
        if time.monotonic() - self._asked_s > _NODES_LAST_S:
            self._nodes, self._asked_s = tuple(self._ask()), time.monotonic()
        return self._nodes

    @property
    def offer(self) -> str:
        """What all nodes together have, in words."""
        cpus, gpus = sum(node.cpus for node in self.nodes), sum(node.gpus for node in self.nodes)
        return f"{cpus:g} CPUs and {gpus:g} GPUs on {plural(len(self.nodes), 'node')}"

    def shape(self, config: TrialConfig, resources: Resources) -> GangShape:
        """Return what a trial's gang occupies; raises as ``shape_of`` does."""
        gpus = resources.gpus_per_rank
        if gpus is None:
            gpus = 1.0 if any(node.gpus for node in self.nodes) else 0.0
        return shape_of(
            config.train.ranks,
            # A command starts its ranks itself: all that they need lies in one bundle, and so on one node.
            processes=processes_of(config),
            cpus_per_rank=resources.cpus_per_rank,
            gpus_per_rank=gpus,
            nodes=resources.nodes_per_trial,
        )

    def refuse_what_never_fits(self, configs: Iterable[TrialConfig], resources: Resources) -> None:
        """Raise InputError where the gang of one of these trials does not fit on the empty cluster.

        Or where states of paused trials are to be kept in memory that not all gangs share with this process.
        """
        if resources.paused_memory_gib and not self._is_this_machine():
            raise InputError(
                f"needs a cluster of this machine alone; it has {plural(len(self.nodes), 'node')}",
                where="resources.paused_memory_gib",
                got=resources.paused_memory_gib,
                mend="leave it out: states are then kept on disk",
            )
        sizes = {config.train.ranks: config for config in configs}
        for size in sorted(sizes):
            shape = self.shape(sizes[size], resources)
            if gangs_that_fit(shape, self.nodes) < 1:
                raise InputError(
                    f"a gang of {size} ranks needs {shape}; the cluster has {self.offer}",
                    where="train.ranks",
                    got=size,
                    mend="lower train.ranks or resources.cpus_per_rank, or add nodes",
                )

    def has_room(self, running: int, config: TrialConfig, resources: Resources) -> bool:
        """Return whether another gang may begin beside so many that run or wait for room, all like this trial's.

        The first one always may: a cluster that grows by itself sees then what it is to grow for.
        """
        return not running or running < gangs_that_fit(self.shape(config, resources), self.nodes)

    def could_hold(self, config: TrialConfig, resources: Resources) -> bool:
        """Return whether a trial's gang would fit if nothing ran."""
        return gangs_that_fit(self.shape(config, resources), self.nodes) > 0


def cluster(address: str | None) -> contextlib.AbstractContextManager[Cluster]:
    """Return a cluster to enter: Ray started in this process, or the one at ``address``, ``auto`` or ``HOST:PORT``.

    Raises:
        InputError: no sweep can be driven over such an address.
    """
    refuse_client(address)
    return _entered(address)


@contextlib.contextmanager
def _entered(address: str | None) -> Iterator[Cluster]:
    """Start Ray or connect; leave nothing behind.

    A cluster of our own listens on the loopback address, speaks only to holders of a token made for this run, and
    keeps its files in a temporary folder (Ray's socket paths must be short, so not in the sweep's own).
    """
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    os.environ[_BEYOND_LOOPBACK] = "0" if address is None else "1"
    own_folder = None
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        _sweep_out()
        own_folder = tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-")
    import ray

    # Ray read the variable when it was imported, which may have been before.
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = address is not None
    try:
        _connect(address, own_folder)
        if address is not None:
            refuse_other_versions()
        yield Cluster(_living_nodes, _is_this_machine)
    finally:
        ray.shutdown()
        if own_folder is not None:
            shutil.rmtree(own_folder, ignore_errors=True)


def _connect(address: str | None, own_folder: str | None) -> None:
    import ray

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=own_folder,
            )
    except ConnectionError as error:
        raise InputError(f"no Ray cluster answers: {error}", where="--address", got=address) from error
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        told = " ".join(str(error).split())
        raise InputError(f"the cluster runs other versions: {told}", where="--address", got=address) from error


def _living_nodes() -> list[NodeSize]:
    import ray

    sizes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [NodeSize(cpus=size.get("CPU", 0.0), gpus=size.get("GPU", 0.0)) for size in sizes]


def _is_this_machine() -> bool:
    import ray

    return {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]} == {socket.gethostname()}


def _sweep_out() -> None:
    """Remove what drivers that were killed left in the temporary folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*-*"):
        pid = folder.name.removeprefix(_FOLDER_PREFIX).split("-")[0]
        if pid.isdigit() and folder.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
