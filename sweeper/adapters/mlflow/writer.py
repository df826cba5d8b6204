"""Apply the spool's events to MLflow: find or make the experiment and the runs, then log in batches.

Every event may be applied again: runs are found by their fingerprint tag before they are made, points repeat with the
same key, step, timestamp and value (MLflow's primary key), tags and artifacts are overwritten with the same text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sweeper.adapters.mlflow import layout, translate, view
from sweeper.adapters.mlflow.inputs import Inputs
from sweeper.adapters.mlflow.store import Store
from sweeper.adapters.mlflow.translate import PREFIX, Point
from sweeper.core.decode import encode
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo
from sweeper.spool import SWEEP_KEY, SpoolEvent

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH: Final = 900
"""Metrics per call: MLflow takes 1000 entities, tags and params included."""

RUN_STATUS: Final = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.INFEASIBLE: "FAILED",
}


class RunWriter:
    """Writes one sweep into one MLflow experiment. Not thread-safe; errors of MLflow leave unchanged."""

    def __init__(self, client: MlflowClient, store: Store, sweep: SweepInfo, sweep_id: str, folder: Path) -> None:
        """Find or make the sweep's experiment; ``folder`` is the sweep's own, from which the report is taken."""
        self._client = client
        self._folder = folder
        self._sweep = sweep
        self._sweep_id = sweep_id
        self._experiment_id = self._find_or_make_experiment(store.artifacts)
        self._run_ids = dict(self._existing_runs())
        self._inputs = Inputs(client, self._experiment_id)
        self._has_view = False

    @property
    def experiment_id(self) -> str:
        return self._experiment_id

    def knows(self, key: str) -> bool:
        """Return whether the run of ``key`` exists; if not, its events must be applied from the first on."""
        return key in self._run_ids

    def apply(self, key: str, events: Iterable[SpoolEvent]) -> None:
        """Apply events of one key in their order."""
        for kind, group in groupby(events, key=lambda event: event.kind):
            if kind == "measured":
                self._measured(key, list(group))
                continue
            for event in group:
                if kind == "opened":
                    self._opened(key, event)
                elif kind == "closed":
                    self._closed(key, event)
                elif kind == "sweep_opened":
                    self._sweep_opened(event)
                elif kind == "reported":
                    self._reported(event)
                else:
                    self._sweep_closed(event)

    def _opened(self, key: str, event: SpoolEvent) -> None:
        trial = TrialInfo.from_json(event.body["trial"])
        tags = translate.trial_tags(trial, self._sweep, self._sweep_id)
        run_id = self._start_run(key, trial.name, tags, event.wall_time_ms)
        self._log(run_id, [], tags=tags, params=translate.trial_params(trial))
        self._client.log_text(run_id, _pretty(event.body["trial"]["config"]), "config.json")
        self._inputs.log(run_id, trial)
        if not self._has_view:
            state = view.view_state(self._sweep, trial.axes)
            self._client.set_experiment_tag(self._experiment_id, view.VIEW_TAG, state)
            self._has_view = True

    def _measured(self, key: str, events: Sequence[SpoolEvent]) -> None:
        found: list[Point] = []
        for event in events:
            found += translate.points(Measurement.from_json(event.body["measurement"]), event.wall_time_ms)
        tags = translate.verdict_tags(events[-1].body["verdict"]) | translate.non_finite_tags(found)
        self._log(self._run_ids[key], found, tags=tags)

    def _closed(self, key: str, event: SpoolEvent) -> None:
        body, run_id = event.body, self._run_ids[key]
        state = TrialState(body["state"])
        tags = translate.verdict_tags(body["verdict"]) | {PREFIX + "state": state.value}
        if body["detail"]:
            tags[PREFIX + "detail"] = translate.tag_text(body["detail"])
        tags[layout.NOTE] = translate.tag_text(layout.trial_note(state, body["verdict"], body["detail"]))
        if state in layout.COLORS:
            tags[view.RUN_COLOR] = layout.COLORS[state]
        found: list[Point] = []
        if state is TrialState.COMPLETE:
            # The last numbers of a trial that was ended early are no results; its curves show them.
            final = {name: float(value) for name, value in body["final"].items()}
            found = translate.final_points(final, event.wall_time_ms)
        self._log(run_id, found, tags=tags)
        if body["verdict"] is not None:
            self._client.log_text(run_id, _pretty(body["verdict"]), "verdict.json")
        if body["detail"]:
            self._client.log_text(run_id, body["detail"], "detail.txt")
        self._client.set_terminated(run_id, RUN_STATUS[state], end_time=event.wall_time_ms)

    def _sweep_opened(self, event: SpoolEvent) -> None:
        tags = translate.sweep_tags(self._sweep, self._sweep_id)
        run_id = self._start_run(SWEEP_KEY, layout.SUMMARY_RUN, tags, event.wall_time_ms)
        self._client.log_text(run_id, self._sweep.space_yaml, "space.yaml")
        folder = SweepFolder(self._folder)
        for file in (folder.plan_text, folder.plan_json):
            if file.is_file():
                self._client.log_artifact(run_id, str(file))
        self._client.set_experiment_tag(self._experiment_id, layout.NOTE, layout.note(self._sweep, self._experiment_id))

    def _sweep_closed(self, event: SpoolEvent) -> None:
        run_id = self._run_ids[SWEEP_KEY]
        summary = SweepSummary.from_json(event.body["summary"])
        text = layout.summary_note(self._experiment_id, summary, run_id)
        self._log(run_id, [], tags=layout.summary_tags(summary) | {layout.NOTE: translate.tag_text(text)})
        self._client.log_text(run_id, _pretty(encode(summary.metrics())), "summary.json")
        self._client.log_text(run_id, layout.trials_csv(summary), "trials.csv")
        self._client.log_text(run_id, layout.signals_csv(summary), "signals.csv")
        text = layout.closing_note(self._sweep, self._experiment_id, summary, run_id)
        self._client.set_experiment_tag(self._experiment_id, layout.NOTE, text)
        self._client.set_terminated(run_id, "FINISHED", end_time=event.wall_time_ms)

    def _reported(self, event: SpoolEvent) -> None:
        folder = self._folder / event.body["folder"]
        for name in event.body["files"]:
            # A file that the user has deleted since is no reason to hold up the record.
            if (folder / name).is_file():
                self._client.log_artifact(self._run_ids[SWEEP_KEY], str(folder / name), layout.REPORT_FOLDER)

    def _start_run(self, key: str, name: str, tags: dict[str, str], wall_time_ms: int) -> str:
        """Return the run of ``key``, running; tags come with its creation, so that it can always be found again."""
        if key in self._run_ids:
            self._client.update_run(self._run_ids[key], status="RUNNING")
        else:
            # The order of creation gives neighbours different colours; a colour is given once and then stays.
            color = layout.PALETTE[len(self._run_ids) % len(layout.PALETTE)]
            tags = {**tags, view.RUN_COLOR: color}
            run = self._client.create_run(self._experiment_id, start_time=wall_time_ms, tags=tags, run_name=name)
            self._run_ids[key] = run.info.run_id
        return self._run_ids[key]

    def _log(
        self, run_id: str, found: Sequence[Point], *, tags: dict[str, str], params: dict[str, str] | None = None
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = (Metric(point.key, point.value, point.timestamp_ms, point.step) for point in found)
        for batch in _batches(metrics, BATCH):
            self._client.log_batch(run_id, metrics=batch)
        # Last, so that a verdict is never shown without the numbers it rests on.
        self._client.log_batch(
            run_id,
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )

    def _find_or_make_experiment(self, artifacts: str | None) -> str:
        tag = f"tags.`{PREFIX}sweep_id` = '{self._sweep_id}'"
        found = self._client.search_experiments(filter_string=tag)
        if found:
            return str(found[0].experiment_id)
        name = self._sweep.name
        if self._client.get_experiment_by_name(name) is not None:
            # Another sweep of this name, perhaps of another user, or one that was deleted and still holds its name.
            name = f"{name}-{self._sweep_id}"
        tags = translate.sweep_tags(self._sweep, self._sweep_id) | layout.EXPERIMENT_TAGS
        return str(self._client.create_experiment(name, artifact_location=artifacts, tags=tags))

    def _existing_runs(self) -> Iterator[tuple[str, str]]:
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment_id], max_results=1000, page_token=token)
            for run in page:
                key = run.data.tags.get(PREFIX + "fingerprint", SWEEP_KEY)
                if run.data.tags.get(PREFIX + "sweep_id") == self._sweep_id:
                    yield key, run.info.run_id
            token = page.token
            if not token:
                return


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
