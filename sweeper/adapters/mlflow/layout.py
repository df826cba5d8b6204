"""How a sweep looks in MLflow's pages: its description, its summary run, and the trials' charts.

Runs are flat: children of a parent run start collapsed, and the chart page is then empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sweeper.adapters.mlflow.translate import PREFIX, tag_text
from sweeper.core.record import SweepInfo, SweepSummary

if TYPE_CHECKING:
    from mlflow import MlflowClient

SUMMARY_RUN: Final = "summary"
EXPERIMENT_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}
NOTE: Final = "mlflow.note.content"


def lay_out(client: MlflowClient, experiment_id: str, sweep: SweepInfo, hidden_run_ids: Sequence[str]) -> None:
    """Describe a sweep that has started."""
    client.set_experiment_tag(experiment_id, NOTE, _started_note(sweep))


def describe(client: MlflowClient, experiment_id: str, sweep: SweepInfo, summary: SweepSummary) -> None:
    """Describe a sweep that has ended."""
    client.set_experiment_tag(experiment_id, NOTE, _started_note(sweep))


def summary_tags(summary: SweepSummary) -> dict[str, str]:
    """Return the summary's numbers as tags: as metrics they would add a chart of one bar each to the trials' page."""
    return {f"{PREFIX}{name}": tag_text(f"{value:.6g}") for name, value in summary.metrics().items()}


def trials_csv(summary: SweepSummary) -> str:
    """Return the table of all trials, one line each, which MLflow shows as a table."""
    axes = list(dict.fromkeys(axis for row in summary.rows for axis in row.axes))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *axes, "state", summary.objective, "samples_seen", "train_s", "rule", "reason"])
    for row in summary.rows:
        numbers = ["" if row.objective is None else row.objective, row.samples_seen, round(row.train_s, 3)]
        writer.writerow(
            [row.name, *(row.axes.get(axis, "") for axis in axes), row.state, *numbers, row.rule, row.reason]
        )
    return text.getvalue()


def _started_note(sweep: SweepInfo) -> str:
    return f"Sweep **{sweep.name}**: objective `{sweep.objective}` ({sweep.direction}). Step = samples seen."
