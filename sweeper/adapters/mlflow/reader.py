"""Read the runs of any MLflow experiment, whoever logged them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.adapters.mlflow.store import Store, connect
from sweeper.adapters.mlflow.translate import PREFIX
from sweeper.core.address import refuse_password
from sweeper.core.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignRun:
    """A run as MLflow holds it."""

    name: str
    run_id: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    """Our own ones, without their prefix; none where another trainer logged the run."""
    records: tuple[Mapping[str, Any], ...]
    """One mapping per step, with the step under ``step``, in rising order."""


def read_experiment(name: str, uri: str, is_wanted: Callable[[str], bool]) -> list[ForeignRun]:
    """Return the active runs of an experiment that hold any metric, with the history of the wanted ones.

    Raises:
        InputError: there is no such store or experiment.
    """
    refuse_password(uri, where="--tracking")
    store = Store(uri=uri)
    if store.sqlite_file is not None and not store.sqlite_file.is_file():
        raise InputError("no such file", where="--tracking", got=uri)
    client = connect(store)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        known = ", ".join(sorted(one.name for one in client.search_experiments(max_results=20)))
        raise InputError("no such experiment", where=store.shown_uri, got=name, mend=f"there: {known}")
    runs: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    return [_run(client, run, is_wanted) for run in runs if run.data.metrics]


def _run(client: Any, run: Any, is_wanted: Callable[[str], bool]) -> ForeignRun:
    steps: dict[int, dict[str, Any]] = {}
    for key in sorted(key for key in run.data.metrics if is_wanted(key)):
        # The latest of several values at one step, as MLflow's own pages show it.
        for point in sorted(client.get_metric_history(run.info.run_id, key), key=lambda each: int(each.timestamp)):
            steps.setdefault(point.step, {"step": point.step})[key] = point.value
    return ForeignRun(
        name=str(run.info.run_name),
        run_id=str(run.info.run_id),
        status=str(run.info.status),
        params=dict(run.data.params),
        tags={key.removeprefix(PREFIX): value for key, value in run.data.tags.items() if key.startswith(PREFIX)},
        records=tuple(steps[step] for step in sorted(steps)),
    )
