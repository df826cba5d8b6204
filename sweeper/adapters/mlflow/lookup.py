"""Finds a trial's run in MLflow again, for whoever wants to name it."""

from __future__ import annotations

from pathlib import Path

from sweeper.adapters.mlflow.store import connect, sweep_store
from sweeper.adapters.mlflow.translate import PREFIX
from sweeper.spool import Spool, recall_sweep_id


def find_run(folder: Path, uri: str | None, fingerprint: str) -> str | None:
    """Return the id of a trial's run in the sweep's store; None where there is none or MLflow does not answer."""
    store = sweep_store(folder, uri)
    sweep_id = recall_sweep_id(Spool(folder))
    if sweep_id is None or (store.sqlite_file is not None and not store.sqlite_file.exists()):
        return None
    client = connect(store)
    from mlflow.exceptions import MlflowException

    try:
        mine = [each.experiment_id for each in client.search_experiments(filter_string=_is("sweep_id", sweep_id))]
        found = client.search_runs(mine, filter_string=_is("fingerprint", fingerprint), max_results=1) if mine else []
    except MlflowException:
        return None
    return str(found[0].info.run_id) if found else None


def _is(tag: str, value: str) -> str:
    return f"tags.`{PREFIX}{tag}` = '{value}'"
