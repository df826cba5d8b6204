"""What a report reads: a sweep's folder as it stands, or recorded curves."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from sweeper.adapters.yaml_space import load_space
from sweeper.core.errors import InputError
from sweeper.core.layout import SweepFolder
from sweeper.planned import facts_key
from sweeper.report.command import report
from sweeper.report.sources import curves_record, sweep_record
from sweeper.sweep import open_ledger

SPACE = """\
sweep: waiting
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}}
eval: {metrics: [exact_match], max_samples: 100}
train: {ranks: 3}
objective: {metric: exact_match}
grid: {batch_size: [16, 64], learning_rate: [1e-4]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """Return a sweep that was entered into its study and then interrupted."""
    made = SweepFolder(tmp_path)
    made.space.write_text(SPACE)
    space, cells = load_space(made.space)
    facts = {"train_samples": 640, "data_sha256": "cafe", "test": {"new": {"samples": 256}, "old": {"samples": 50}}}
    found = {"facts": {facts_key(cells[0].config): facts}, "versions": {"torch": "2.13"}, "git_commit": "0123abc"}
    made.facts.write_text(json.dumps(found))
    ledger = open_ledger(made, space)
    for cell in cells:
        ledger.add_cell(cell, planned_samples=640, calibration=False)
    return made


def test_a_sweep_with_cells_left_is_interrupted_unless_a_driver_holds_its_lock(folder: SweepFolder) -> None:
    assert sweep_record(folder).standing == "interrupted"
    folder.lock.touch()
    assert sweep_record(folder).standing == "interrupted"
    with folder.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep_record(folder).standing == "running"


def test_a_record_knows_ranks_test_sizes_and_where_it_comes_from(folder: SweepFolder) -> None:
    record = sweep_record(folder)
    assert [trial.ranks for trial in record.trials] == [3, 3]
    assert record.test_sizes == {"new": 100, "old": 50}, "eval.max_samples caps a set"
    assert dict(record.provenance) | {"versions": ""} == {
        "first trial started": "none has started",
        "last trial ended": "none has ended",
        "git commit": "0123abc",
        "data, sha256": "cafe",
        "versions": "",
    }


def test_recorded_curves_are_a_sweep_whose_trials_ran_to_their_end(tmp_path: Path) -> None:
    header = {"format": "curves/1", "grid": "toy", "objective": {"direction": "minimize"}}
    curve = [{"resource": k, "objective": 3.0 - k, "train_loss": 4.0 - k} for k in (1, 2)]
    lines = [header] + [
        {"trial": f"t{final}", "config": {"learning_rate": final, "seed": 0}, "final": final, "curve": curve}
        for final in (1.0, 2.0, "NaN")
    ]
    path = tmp_path / "toy.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = curves_record(path)
    assert record.standing == "recorded"
    assert [trial.row.state for trial in record.trials] == ["complete", "complete", "fail"]
    assert record.summary.best is not None
    assert (record.summary.best.name, record.summary.best.axes) == ("t1.0", {"learning_rate": 1.0})
    assert record.trials[0].past.value_at("train_loss", 2) == 2.0


def test_a_report_refuses_an_output_that_is_a_file_and_writes_nothing(folder: SweepFolder, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        report(str(folder.path), tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
