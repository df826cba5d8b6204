from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from record_cases import grid, sweep_info

from sweeper.adapters.mlflow import layout, view
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepSummary, TrialRow, summarise
from sweeper.core.verdict import prune


def _summary() -> SweepSummary:
    rows = [
        TrialRow(
            fingerprint=trial.fingerprint,
            name=trial.name,
            axes=trial.axes,
            state="pruned" if index == 1 else "complete",
            objective=2.0 + index,
            samples_seen=64 if index == 1 else 256,
            planned_samples=256,
            train_s=1.5,
            rule="early_dynamics" if index == 1 else "",
            reason='ranks "last", of 4' if index == 1 else "",
        )
        for index, trial in enumerate(grid())
    ]
    return summarise(sweep_info(Path("/s")), rows, elapsed_s=9.0)


def _state(*, cells: int = 0, **changes: Any) -> dict[str, Any]:
    sweep = dataclasses.replace(sweep_info(Path("/s"), **changes), cells=cells)
    state: dict[str, Any] = json.loads(view.view_state(sweep, ["batch_size"]))
    return state


def test_the_page_shows_every_trial_with_the_signals_first() -> None:
    state = _state(cells=100)
    assert state["runsHiddenMode"] == "SHOW_ALL"
    assert [chart["metricKey"] for chart in state["compareRunCharts"][:3]] == [
        "train/grad_norm",
        "train/loss",
        "score/heldout_loss",
    ]


def test_of_more_trials_than_a_page_lists_the_best_are_drawn() -> None:
    assert _state(cells=101)["runsHiddenMode"] == "FIRST_20_RUNS"


def test_the_page_lists_the_winner_first() -> None:
    state = _state()
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`final/heldout_loss`", True)


def test_every_chart_lies_in_a_section_and_has_an_identity_of_its_own() -> None:
    state = _state()
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
    assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])


def test_the_view_fits_an_experiment_tag() -> None:
    assert len(view.view_state(sweep_info(Path("/s")), [f"data.key_{n}" for n in range(40)])) < 20_000


def test_the_address_opens_model_training_with_the_view() -> None:
    path = view.chart_path("7")
    assert path.startswith("#/experiments/7/runs?")
    assert "workflowType=machine_learning" in path
    assert f"viewStateShareKey={view.VIEW_TAG.rsplit('.', 1)[1]}" in path


def test_the_table_of_trials_reads_back_as_it_was() -> None:
    summary = _summary()
    lines = list(csv.DictReader(io.StringIO(layout.trials_csv(summary))))
    assert [line["trial"] for line in lines] == [row.name for row in summary.rows]
    assert lines[1]["reason"] == 'ranks "last", of 4'
    assert float(lines[2]["heldout_loss"]) == 4.0
    assert lines[0]["learning_rate"] == "0.0001"


def test_the_summarys_numbers_are_tags_so_that_they_add_no_chart() -> None:
    tags = layout.summary_tags(_summary())
    assert tags["sweeper.trials_pruned"] == "1"
    assert tags["sweeper.ended_by_early_dynamics"] == "1"
    assert tags["sweeper.saved_samples_share"] == "0.1875"


def test_the_description_leads_to_charts_table_and_report_and_tells_the_result() -> None:
    text = layout.closing_note(sweep_info(Path("/s")), "7", _summary(), "r1")
    assert f"]({view.chart_path('7')})" in text
    assert f"]({view.table_path('7')})" in text
    assert "#/experiments/7/runs/r1/artifacts/report/report.html" in text
    assert "saved   19% of the full grid's samples: 192 of 1,024" in text


@pytest.mark.parametrize(
    ("state", "detail", "expected"),
    [
        (TrialState.PRUNED, "", "Pruned by **early_dynamics** at 1,664 samples: too high"),
        (TrialState.COMPLETE, "", "Ran to its end."),
        (TrialState.FAIL, "rank 1 died", "fail:\n```\nrank 1 died\n```"),
    ],
)
def test_an_ended_trial_says_why(state: TrialState, detail: str, expected: str) -> None:
    verdict = prune("early_dynamics", "too high", 1664).to_json()
    assert layout.trial_note(state, verdict, detail) == expected
