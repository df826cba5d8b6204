"""How a sweep looks in MLflow's pages: its description, its summary run, and the colours of ended trials.

Runs are flat: children of a parent run start collapsed, and the chart page is then empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final

from sweeper.adapters.mlflow.translate import PREFIX, tag_text
from sweeper.adapters.mlflow.view import artifact_path, chart_path, table_path
from sweeper.core.closing import result_lines
from sweeper.core.figures import count
from sweeper.core.foretell import CLAIMS, Correlation
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepInfo, SweepSummary

SUMMARY_RUN: Final = "summary"
REPORT_FOLDER: Final = "report"
REPORT_PAGE: Final = "report.html"
EXPERIMENT_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}
NOTE: Final = "mlflow.note.content"
PALETTE: Final = (
    "#1f77b4",
    "#2ca02c",
    "#9467bd",
    "#17becf",
    "#e377c2",
    "#3b4cc0",
    "#7f7f00",
    "#006d5b",
    "#5ab4ff",
    "#d62f7f",
)
"""Colours of trials in the order of their start. MLflow's own choice gave 3 of 4 completed trials the same brown."""
COLORS: Final = {TrialState.PRUNED: "#c8a56a", TrialState.FAIL: "#c0392b"}
"""Ended trials step back, so that the curves that count stand out."""


def note(sweep: SweepInfo, experiment_id: str) -> str:
    """Return the description at the head of the page of a sweep that has begun, in Markdown."""
    return _note(sweep, _links(experiment_id))


def closing_note(sweep: SweepInfo, experiment_id: str, summary: SweepSummary, summary_run_id: str) -> str:
    """Return the description at the head of the page of a sweep that has ended; MLflow shows its first line."""
    return _note(sweep, _links(experiment_id, summary_run_id), _result(summary))


def summary_note(experiment_id: str, summary: SweepSummary, summary_run_id: str) -> str:
    """Return the description of the summary run: the result first, for MLflow folds all but six lines away."""
    return f"{_result(summary)}\n\n{_links(experiment_id, summary_run_id)}\n"


def _result(summary: SweepSummary) -> str:
    return "```\n" + "\n".join(result_lines(summary)) + "\n```"


def _links(experiment_id: str, summary_run_id: str | None = None) -> str:
    links = {
        "Charts of all trials": chart_path(experiment_id),
        "Table of trials and verdicts": table_path(experiment_id),
    }
    if summary_run_id is not None:
        links["Report"] = artifact_path(experiment_id, summary_run_id, f"{REPORT_FOLDER}/{REPORT_PAGE}")
    return " · ".join(f"**[{text}]({path})**" for text, path in links.items())


def _note(sweep: SweepInfo, links: str, *rest: str) -> str:
    told = f"Sweep `{sweep.name}`: {sweep.direction} `{sweep.objective}`. One run per trial; step = samples seen."
    return "\n\n".join([links, told, *rest]) + "\n"


def trial_note(state: TrialState, verdict: Mapping[str, Any] | None, detail: str) -> str:
    """Return the description of an ended trial's run, in Markdown; ``verdict`` in its JSON form."""
    if state is TrialState.PRUNED and verdict is not None:
        if not verdict["samples_seen"]:
            return f"Ended by **{verdict['rule']}** before its start: {verdict['reason']}"
        return f"Pruned by **{verdict['rule']}** at {count(verdict['samples_seen'])} samples: {verdict['reason']}"
    if detail:
        return f"{state.value}:\n```\n{detail}\n```"
    return "Ran to its end." if state is TrialState.COMPLETE else state.value


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
        objective = "" if row.objective is None else row.objective
        values = [row.axes.get(axis, "") for axis in axes]
        writer.writerow(
            [row.name, *values, row.state, objective, row.samples_seen, round(row.train_s, 3), row.rule, row.reason]
        )
    return text.getvalue()


def signals_csv(summary: SweepSummary) -> str:
    """Return what each signal foretold at each milestone, one line each; ``finding`` where the paper makes a claim."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"{scope}_{part}" for scope in ("across", "within") for part in ("correlation", "low", "high", "trials")]
    writer.writerow(["signal", "samples", "trials", *parts, "finding"])
    for row in summary.signals:
        known = [number for each in (row.across, row.within) for number in _correlation_cells(each)]
        finding = row.finding(row.across) if row.signal in CLAIMS else ""
        writer.writerow([row.signal, row.samples, row.trials, *known, finding])
    return text.getvalue()


def _correlation_cells(found: Correlation | None) -> list[str]:
    if found is None:
        return ["", "", "", ""]
    return [f"{found.value:.3f}", f"{found.low:.3f}", f"{found.high:.3f}", str(found.trials)]
