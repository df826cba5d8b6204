"""Which clusters a sweep can be driven on, and where its folder may lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sweeper.core.errors import InputError

NO_CLIENT: Final = "no sweep can be driven over Ray Client"
INSTEAD_OF_CLIENT: Final = (
    "on a machine of the cluster: --address auto; from elsewhere: "
    "ray job submit --address http://HOST:8265 --working-dir . -- sweeper run SPACE.yaml --address auto --plain"
)
_JOB_FOLDERS: Final = "working_dir_files"
"""Ray's name for the folder of what its jobs shipped (Ray 2.60)."""


def refuse_client(address: str | None) -> None:
    """Refuse an address with a scheme, as ``ray://HOST:PORT``.

    Over Ray Client Tune runs in a process of its own on the cluster, where the study, the record and the judge are not.

    Raises:
        InputError: names the address, also where ``auto`` stands for it.
    """
    meant = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address or ""
    if "://" in meant:
        raise InputError(NO_CLIENT, where="--address", got=meant, mend=INSTEAD_OF_CLIENT)


def refuse_passing_folder(folder: Path) -> None:
    """Raise InputError where a sweep would lie in the working folder of a Ray job, which Ray deletes after the job."""
    if _JOB_FOLDERS in folder.parts:
        mend = "set SWEEPER_HOME to a folder that all nodes see, in env_vars of --runtime-env-json"
        raise InputError("Ray deletes this folder after the job", where="SWEEPER_HOME", got=str(folder), mend=mend)
