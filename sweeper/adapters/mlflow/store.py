"""Where MLflow keeps a sweep, and how this process talks to it: an explicit client, quiet, and without telemetry."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sweeper.core.address import without_password
from sweeper.core.errors import SweeperError
from sweeper.core.layout import cache_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE: Final = "sqlite:///"

_PLENTY: Final = {
    "index_metrics_run_uuid_key_step": "4000000 4000 500 1",
    "index_metrics_run_uuid": "4000000 4000",
    "sqlite_autoindex_metrics_1": "4000000 500000 1 1 1 1 1",
}
"""What SQLite counts, by index, in a store of 1,000 trials x 500 optimizer steps x 8 metrics: rows in all, then rows
that agree in the index's first column, in its first two, and so on (https://sqlite.org/fileformat2.html#stat1tab)."""

_ENVIRONMENT: Final = {
    # MLflow otherwise sends usage data to config.mlflow-telemetry.io.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server's client otherwise prints two lines into the terminal's table for each run that ends.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The spool repeats what fails, and knows what is safe to repeat; MLflow's own 7 tries block for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # 900 points take a busy server about 0.4 s; the default of 120 s would hide a dead one for two minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """An MLflow tracking store."""

    uri: str
    """Absolute tracking URI."""
    artifacts: str | None = None
    """Where the experiment's artifacts go; None lets a server decide."""

    @property
    def is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https", "databricks")

    @property
    def sqlite_file(self) -> Path | None:
        return Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None

    @property
    def shown_uri(self) -> str:
        """The URI without its password."""
        return without_password(self.uri)


def local_store(folder: Path) -> Store:
    """Return the store inside a sweep's folder: one SQLite file, with the artifacts beside it."""
    home = folder.resolve()
    return Store(uri=f"{SQLITE}{home / 'mlflow.db'}", artifacts=(home / "artifacts").as_uri())


def sweep_store(folder: Path, uri: str | None) -> Store:
    """Return the store that a search space asks for, or the one in the sweep's folder."""
    if uri is None:
        return local_store(folder)
    # A database holds no artifacts; only a server has a place of its own for them.
    store = Store(uri=uri)
    return store if store.is_server else Store(uri=uri, artifacts=(folder.resolve() / "artifacts").as_uri())


def set_environment() -> None:
    """Set what MLflow reads from the environment; whatever the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def server_environment() -> dict[str, str]:
    """Return the environment of an MLflow server of our own: no usage data, no job runner.

    The job runner starts 8 processes with 600 MB that a sweep has no use for.
    """
    return {**_ENVIRONMENT, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def connect(store: Store) -> MlflowClient:
    """Return a client of ``store``, which is created where it is a database without tables.

    The first import of mlflow takes 1 to 2 s, a new SQLite file 2 s: call it where nobody waits.
    """
    set_environment()
    import mlflow

    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if store.sqlite_file is None and not store.is_server:
        _reach(store)
    elif store.sqlite_file is not None and not store.sqlite_file.exists():
        _make_sqlite(store.sqlite_file)
    return mlflow.MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def _reach(store: Store) -> None:
    """Raise SweeperError where the database does not answer: MLflow itself would try ten times, for 100 s."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(store.uri, poolclass=sqlalchemy.NullPool)
        with engine.connect():
            pass
    except ImportError as error:
        raise SweeperError(f"{store.shown_uri}: {error}; pip install 'sweeper[postgres]'") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise SweeperError(str(error).strip().split("\n")[0]) from error


def _make_sqlite(path: Path) -> None:
    """Make MLflow's tables in a file that gets its name only when it is whole.

    The tables come from some 60 migrations, 3 s of processor time, and MLflow cannot go on from a file that was left
    between two of them. So they are made once for each version of MLflow, and copied from the cache afterwards.
    """
    import mlflow

    empty = cache_root() / "stores" / f"mlflow-{mlflow.__version__}.db"
    beside = path.with_name(path.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    whole = beside / "whole.db"
    if empty.is_file():
        shutil.copyfile(empty, whole)
    else:
        _migrate(beside / "part.db", whole)
        # A cache that cannot be written costs the next sweep these seconds again, and this one nothing.
        with suppress(OSError):
            _keep(whole, empty)
    _foretell_plenty(whole)
    os.replace(whole, path)
    shutil.rmtree(beside)


def _migrate(part: Path, whole: Path) -> None:
    import mlflow

    uri = f"{SQLITE}{part}"
    mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments()
    # MLflow's engine keeps the first file open; a backup is complete whatever its journal still holds.
    with closing(sqlite3.connect(part)) as source, closing(sqlite3.connect(whole)) as target:
        source.backup(target)


def _foretell_plenty(path: Path) -> None:
    """Tell SQLite what the empty tables will hold, so that a curve is found by its run.

    Without numbers SQLite takes the primary key, which begins with the metric, and reads that metric of every run: 20
    curves among 1,000 trials then cost the server 1.5 s of processor time in place of 0.07 s.
    """
    with closing(sqlite3.connect(path)) as database, database:
        # Makes the table of numbers, and leaves it empty as the others are.
        database.execute("ANALYZE metrics")
        database.executemany("INSERT INTO sqlite_stat1 VALUES ('metrics', ?, ?)", _PLENTY.items())


def _keep(whole: Path, empty: Path) -> None:
    empty.parent.mkdir(parents=True, exist_ok=True)
    part = empty.with_name(f".{empty.name}.{os.getpid()}")
    shutil.copyfile(whole, part)
    os.replace(part, empty)
