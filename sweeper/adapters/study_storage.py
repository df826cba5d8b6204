"""Where a study is kept: a local journal file, or a database."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from sweeper.adapters.study_patience import PatientStorage
from sweeper.core.address import without_password
from sweeper.core.errors import InputError


def storage_for(target: Path | str) -> BaseStorage:
    """Return the storage behind a local journal file or a database URL."""
    if isinstance(target, Path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return JournalStorage(JournalFileBackend(str(target)))
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
