"""Which clusters a sweep can be driven on, and where its folder may lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sweeper.core.errors import InputError

_JOB_FOLDERS: Final = "working_dir_files"
"""Ray's name for the folder of what its jobs shipped (Ray 2.60)."""


def client_address(address: str | None) -> str | None:
    """Return the address of a Ray Client server, ``ray://HOST:PORT``, where one is meant; ``auto`` stands for
    ``RAY_ADDRESS``. None for any other address: the sweep is driven by this process.

    Raises:
        InputError: a scheme that is not Ray Client's, or no host or port.
    """
    meant = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address or ""
    if "://" not in meant:
        return None
    if meant.startswith(("http://", "https://")):
        mend = f"ray://HOST:10001, or: ray job submit --address {meant} --working-dir . -- sweeper run SPACE.yaml"
        raise InputError("is the address of Ray's job server", where="--address", got=meant, mend=mend)
    host_and_port(meant)
    return meant


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of ``ray://HOST:PORT``; raises InputError where it has another form."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or address != f"ray://{parts.netloc}" or "@" in address:
        raise InputError(
            "must be ray://HOST:PORT", where="--address", got=address, mend="Ray's own port for it is 10001"
        )
    return host, port


def refuse_client(address: str | None) -> None:
    """Raise InputError where a driver in this process would run over Ray Client.

    Tune would then run in a process of its own on the cluster, where the study, the record and the judge are not.
    """
    meant = client_address(address)
    if meant is not None:
        mend = f"sweeper run SPACE.yaml --address {meant}; a program on the cluster itself: address='auto'"
        raise InputError("only the command line drives a sweep over Ray Client", where="address", got=meant, mend=mend)


def refuse_passing_folder(folder: Path) -> None:
    """Raise InputError where a sweep would lie in the working folder of a Ray job, which Ray deletes after the job."""
    if _JOB_FOLDERS in folder.parts:
        mend = "set SWEEPER_HOME to a folder that all nodes see, in env_vars of --runtime-env-json"
        raise InputError("Ray deletes this folder after the job", where="SWEEPER_HOME", got=str(folder), mend=mend)
