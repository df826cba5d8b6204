"""Which environment variables of this machine go with a sweep to a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from sweeper.core.errors import InputError

HOME: Final = "SWEEPER_HOME"
_PREFIXES: Final = ("MLFLOW_TRACKING_", "PG")
"""What leads to an MLflow server and to a PostgreSQL database, credentials included."""


def travelling(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the driver of a sweep gets on the cluster: those of MLflow and PostgreSQL, and
    ``SWEEPER_HOME``. Nothing else leaves this machine."""
    return {name: value for name, value in environment.items() if name == HOME or name.startswith(_PREFIXES)}


def home_on_cluster(environment: Mapping[str, str]) -> str:
    """Return the folder of all sweeps on the cluster.

    Raises:
        InputError: ``SWEEPER_HOME`` is not set, or not an absolute path.
    """
    home = environment.get(HOME, "")
    if not home:
        mend = f"{HOME}=/shared/sweeps sweeper ..."
        raise InputError("must name a folder that all nodes of the cluster see", where=HOME, mend=mend)
    if not PurePosixPath(home).is_absolute():
        raise InputError("must be an absolute path on the cluster", where=HOME, got=home)
    return home
