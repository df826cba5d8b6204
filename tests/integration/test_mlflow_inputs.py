"""What a run reads, and the report on the summary run, in a real SQLite store."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from record_cases import grid, mlflow_tables, play, sweep_info

from sweeper.adapters.mlflow.store import connect
from sweeper.adapters.mlflow.tracker import MlflowTracker
from sweeper.core.record import SweepInfo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").write_bytes(mlflow_tables())
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("<p>first</p>")
    (tmp_path / "report" / "curves.png").write_bytes(b"png")
    (tmp_path / "report" / ".report.html.tmp").write_text("half a page")
    return tmp_path


def write_record(folder: Path) -> MlflowTracker:
    tracker, sweep = MlflowTracker(folder, flush_timeout_s=20), sweep_info(folder)
    play(tracker, sweep, grid(batch_sizes=(64,)))
    tracker.attach_report(folder / "report")
    tracker.flush()
    return tracker


def artifact(folder: Path, run_id: str, path: str) -> Path:
    return folder / "artifacts" / run_id / "artifacts" / path


def test_a_run_names_its_data_and_its_model_once_however_often_it_is_told(folder: Path) -> None:
    write_record(folder).close()
    (folder / "spool" / "flushed.json").unlink()
    tracker = write_record(folder)
    tracker.close()
    client = connect(tracker.store)
    runs = client.search_runs(["1"], filter_string="tags.`sweeper.trial` != ''")
    assert len(runs) == 2
    for run in runs:
        told = {each.dataset.name: each for each in run.inputs.dataset_inputs}
        assert set(told) == {"train.jsonl", "builtin:quickstart/new"}
        assert told["train.jsonl"].tags[0].value == "training"
        assert told["builtin:quickstart/new"].tags[0].value == "evaluation"
        assert json.loads(told["train.jsonl"].dataset.profile)["num_rows"] == 1024
        assert run.data.tags["sweeper.data_hash"] == "d" * 64
        assert run.data.tags["mlflow.source.git.commit"] == "0123abc"
        (model,) = client.get_run(run.info.run_id).inputs.model_inputs
        assert client.get_logged_model(model.model_id).name == "builtin-quickstart"
    assert len(client.search_logged_models(["1"])) == 1


def test_the_report_lies_on_the_summary_run_and_a_new_one_takes_its_place(folder: Path) -> None:
    tracker = write_record(folder)
    tracker.close()
    client = connect(tracker.store)
    (summary,) = client.search_runs(["1"], filter_string="attributes.run_name = 'summary'")
    assert {each.path for each in client.list_artifacts(summary.info.run_id, "report")} == {
        "report/report.html",
        "report/curves.png",
    }
    note = client.get_experiment("1").tags["mlflow.note.content"]
    assert f"#/experiments/1/runs/{summary.info.run_id}/artifacts/report/report.html" in note

    (folder / "report" / "report.html").write_text("<p>second</p>")
    later = MlflowTracker(folder, flush_timeout_s=20)
    assert later.reopen()
    later.attach_report(folder / "report")
    later.flush()
    later.close()
    assert artifact(folder, summary.info.run_id, "report/report.html").read_text() == "<p>second</p>"
    assert client.get_run(summary.info.run_id).info.status == "FINISHED", "a report is no new start of the sweep"


def test_a_sweep_that_was_never_opened_is_not_reopened(tmp_path: Path) -> None:
    assert not MlflowTracker(tmp_path).reopen()


def test_a_sweep_outside_a_repository_has_no_commit(tmp_path: Path) -> None:
    from dataclasses import replace

    from sweeper.adapters.mlflow.translate import trial_tags

    sweep: SweepInfo = replace(sweep_info(tmp_path), git_commit=None)
    assert not [key for key in trial_tags(grid()[0], sweep, "id") if "commit" in key]
