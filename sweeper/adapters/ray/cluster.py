"""A Ray cluster to run on: one started in this process, or one that exists."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.core.errors import InputError
from sweeper.core.space import Resources

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


_FOLDER_PREFIX = "sweeper-ray-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What a running cluster offers to gangs."""

    cpus: float
    gpus: float

    def gangs(self, ranks: int, resources: Resources) -> int:
        """Return how many gangs of this size fit at once.

        Raises:
            InputError: not even one fits.
        """
        gpus_per_rank = self.gpus_per_rank(resources)
        by_cpu = self.cpus / (ranks * resources.cpus_per_rank)
        by_gpu = self.gpus / (ranks * gpus_per_rank) if gpus_per_rank else math.inf
        fitting = math.floor(min(by_cpu, by_gpu) + 1e-9)
        if fitting < 1:
            wanted = f"{ranks * resources.cpus_per_rank:g} CPUs and {ranks * gpus_per_rank:g} GPUs"
            raise InputError(
                f"a gang of {ranks} ranks needs {wanted}; the cluster has {self.cpus:g} and {self.gpus:g}",
                where="train.ranks",
                got=ranks,
                mend="lower train.ranks or resources.cpus_per_rank",
            )
        return fitting

    def gpus_per_rank(self, resources: Resources) -> float:
        if resources.gpus_per_rank is not None:
            return resources.gpus_per_rank
        return 1.0 if self.gpus else 0.0


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Cluster]:
    """Start Ray in this process, or connect to ``address``; leave nothing behind.

    A cluster of our own listens on the loopback address, speaks only to holders of a token made for this run, and
    keeps its files in a temporary folder (Ray's socket paths must be short, so not in the sweep's own).
    """
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    own_folder = None
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        _sweep_out()
        own_folder = tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-")
    import ray

    try:
        _connect(address, own_folder)
        found = ray.cluster_resources()
        yield Cluster(cpus=found.get("CPU", 0.0), gpus=found.get("GPU", 0.0))
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


def _sweep_out() -> None:
    """Remove what drivers that were killed left in the temporary folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*-*"):
        pid = folder.name.removeprefix(_FOLDER_PREFIX).split("-")[0]
        if pid.isdigit() and folder.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
