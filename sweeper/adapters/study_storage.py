"""Where a study is kept: a local journal file, or a database."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from sqlalchemy.exc import SQLAlchemyError

from sweeper.adapters.study_patience import PatientStorage
from sweeper.core.address import without_password
from sweeper.core.errors import InputError


class _Journal(JournalFileBackend):
    """Optuna's journal file, whose writes may wait for the next one before they are forced to the disk."""

    forces = True

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """As Optuna writes; a process that is killed loses nothing of it, forced or not."""
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with get_lock_file(self._lock), open(self._file_path, "ab") as file:
            file.write(lines)
            file.flush()
            if self.forces:
                os.fsync(file.fileno())


@contextmanager
def forced_with_the_next(storage: BaseStorage) -> Iterator[None]:
    """Let what is written to a local file inside be forced to the disk by the first write after it.

    Forcing takes 5 ms: of the three writes of a decision, the last one is enough. Any other storage is left alone.
    """
    backend = getattr(storage, "_backend", None)
    if not isinstance(backend, _Journal):
        yield
        return
    backend.forces = False
    try:
        yield
    finally:
        backend.forces = True


def storage_for(target: Path | str) -> BaseStorage:
    """Return the storage behind a local journal file or a database URL."""
    if isinstance(target, Path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return JournalStorage(_Journal(str(target)))
    try:
        # A server that was restarted between two decisions is asked over a fresh connection.
        return PatientStorage(target, engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        mend = "pip install 'sweeper[postgres]'"
        raise InputError("the driver of this database is missing", where=without_password(target), mend=mend) from error
    except SQLAlchemyError as error:
        first_line = str(error).strip().split("\n")[0]
        raise InputError(
            f"the study's database does not answer: {first_line}", where=without_password(target)
        ) from error


def refuse_taken_study(target: str | None, name: str) -> None:
    """Raise InputError where a shared database holds a study of this name, or does not answer."""
    if target is not None and name in optuna.get_all_study_names(storage_for(target)):
        mend = "choose another: --sweep NAME"
        raise InputError("the study's database holds a sweep of this name", where="--sweep", got=name, mend=mend)
