"""The page of a sweep as MLflow shows it at the address of ``chart_path``: which charts and columns, in which order.

MLflow opens an experiment with the charts of its first 10 runs only, sorted by name. A *shared view state*, kept as a
tag of the experiment and named in the address, replaces that. Its keys are those that MLflow 3.17 writes itself
for "Share view"; an MLflow that does not know a key ignores it, and one that does not know the tag opens as usual.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sweeper.adapters.mlflow.translate import FINAL, PREFIX, score_key
from sweeper.core.record import SweepInfo

SHARE_KEY: Final = "sweeper"
VIEW_TAG: Final = f"mlflow.sharedViewState.{SHARE_KEY}"
RUN_COLOR: Final = "mlflow.runColor"
MANY_CELLS: Final = 100
"""Above so many, the page opens with the curves of the 20 best, and its eye shows all. MLflow lists 100 runs at first
and would draw those alone, a tangle that costs the browser a quarter more than 20."""

_LINE: Final = {
    "lineSmoothness": 0,
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def chart_path(experiment_id: str) -> str:
    """Return the part of an address, behind the server's own, that opens the charts of all trials."""
    return f"{table_path(experiment_id)}&compareRunsMode=CHART"


def table_path(experiment_id: str) -> str:
    """Return the part of an address that opens the table of all trials."""
    # Without a workflow type, MLflow 3.17 opens its page for language-model applications, which is empty here.
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={SHARE_KEY}"


def artifact_path(experiment_id: str, run_id: str, artifact: str) -> str:
    """Return the part of an address that opens an artifact of a run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{artifact}?workflowType=machine_learning"


def view_state(sweep: SweepInfo, axes: Iterable[str]) -> str:
    """Return the view's tag text: signals first, then who won, then the rest; trials sorted by objective."""
    objective = score_key(sweep.objective)
    result = FINAL + sweep.objective.replace("/", ".")
    params = list(axes)
    columns = _columns(objective, params)
    sections = {
        # On a linear axis one trial that explodes presses all others onto the ground.
        "signals": [_line(f"train/{name}", name.replace("_", " "), scaleType="log") for name in ("grad_norm", "loss")]
        + [_line(objective, f"{sweep.objective} (held out)")],
        "final": [
            _chart("BAR", f"{sweep.objective}, completed trials", metricKey=result),
            _chart(
                "PARALLEL",
                f"axes against {sweep.objective}",
                selectedParams=params,
                selectedMetrics=[objective],
                showAllRuns=True,
            ),
        ],
        "course": [
            _line("judged/noise_scale", "gradient noise scale (samples)"),
            _line("judged/update_ratio", "update to weights"),
            _line("train/learning_rate", "learning rate"),
            _line("progress/optimizer_step", "optimizer step"),
            _line("progress/tokens_seen", "tokens seen"),
        ],
    }
    names = {"signals": "Signals over samples seen", "final": "Results", "course": "Course"}
    state = {
        # By the result, so that completed trials come first and the winner is the first of them.
        "orderByKey": f"metrics.`{result}`",
        "orderByAsc": sweep.direction == "minimize",
        "runsHiddenMode": "SHOW_ALL" if sweep.cells <= MANY_CELLS else "FIRST_20_RUNS",
        "selectedColumns": columns,
        # MLflow heeds widths only together with an order.
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *columns],
        "columnWidths": {f"metrics.`{objective}`": 160, f"tags.`{PREFIX}rule`": 140, f"tags.`{PREFIX}reason`": 480},
        "compareRunCharts": [
            {**chart, "metricSectionId": key, "uuid": f"{key}-{index}"}
            for key, charts in sections.items()
            for index, chart in enumerate(charts)
        ],
        "compareRunSections": [
            {"uuid": key, "name": name, "display": True, "isReordered": False, "deleted": False, "isGenerated": False}
            for key, name in names.items()
        ],
        # Without it, MLflow sorts the sections by name.
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }
    return json.dumps(state, separators=(",", ":"))


def _columns(objective: str, params: Iterable[str]) -> list[str]:
    # Verdicts before axes, which the trial's name tells already: MLflow's own panel may cover the right of the page.
    return [
        f"metrics.`{objective}`",
        *(f"tags.`{PREFIX}{name}`" for name in ("state", "rule", "reason")),
        *(f"params.`{name}`" for name in params),
        "attributes.`Duration`",
    ]


def _line(metric: str, title: str, **settings: Any) -> dict[str, Any]:
    return _chart("LINE", title, metricKey=metric, selectedMetricKeys=[metric], **(_LINE | settings))


def _chart(kind: str, title: str, **settings: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "displayName": title,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 1000,
        **settings,
    }
