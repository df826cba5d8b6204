"""Experiments of other trainers, and of our own sweeps, read back from a real MLflow store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from record_cases import SAMPLES, grid, mlflow_tables, play, sweep_info

from sweeper.adapters.mlflow.store import connect, local_store
from sweeper.adapters.mlflow.tracker import MlflowTracker
from sweeper.cli import main
from sweeper.replay.curves import load_curves


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").write_bytes(mlflow_tables())
    return tmp_path


def test_runs_of_the_trainers_callback_come_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parameters are text, steps are optimizer steps, and one run failed."""
    store = local_store(folder)
    client = connect(store)
    experiment = client.create_experiment("hf")
    for name, rate, status in (("a", "1e-05", "FINISHED"), ("b", "5e-05", "FINISHED"), ("c", "1", "FAILED")):
        run = client.create_run(experiment, run_name=name)
        args = {"learning_rate": rate, "per_device_train_batch_size": "8", "gradient_accumulation_steps": "4"}
        for key, value in (args | {"output_dir": f"/out/{name}", "seed": "42"}).items():
            client.log_param(run.info.run_id, key, value)
        for step in (10, 20):
            for key, value in (("loss", 2.0), ("grad_norm", 0.5), ("eval_loss", 30 / step * float(rate))):
                client.log_metric(run.info.run_id, key, value, step=step)
        client.log_metric(run.info.run_id, "train_loss", 9.0, step=20)
        client.set_terminated(run.info.run_id, status)

    command = ["import", "mlflow", "hf", "--tracking", store.uri, "--out", str(folder / "hf.jsonl")]
    assert main(command) == 2
    assert "the effective batch size is not known" in capsys.readouterr().err
    assert main([*command, "--set", "world_size=2"]) == 0
    assert "c is left out, its status is FAILED" in capsys.readouterr().err
    trials = {trial.name: trial for trial in load_curves(folder / "hf.jsonl").trials}
    assert set(trials) == {"a", "b"}
    assert trials["b"].config == {"batch_size": 64, "learning_rate": 5e-5, "seed": 42}
    assert [point.resource for point in trials["b"].points] == [640, 1280]
    assert trials["b"].points[1].signals == {"train_loss": 2.0, "grad_norm": 0.5, "objective": pytest.approx(7.5e-5)}


def test_a_sweep_of_our_own_comes_back_without_its_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = MlflowTracker(folder, flush_timeout_s=60)
    trials = grid()
    play(tracker, sweep_info(folder), trials, explode=frozenset({trials[1].name}))
    tracker.flush()
    tracker.close()
    command = ["import", "mlflow", "made-up", "--tracking", tracker.store.uri, "--out", str(folder / "own.jsonl")]
    assert main(command) == 0
    assert f"{trials[1].name} is left out, its status is KILLED" in capsys.readouterr().err
    found = load_curves(folder / "own.jsonl")
    assert {trial.name for trial in found.trials} == {trials[0].name, trials[2].name, trials[3].name}
    assert {trial.cost for trial in found.trials} == {SAMPLES}, "our step counts samples"
    assert found.trials[0].config.keys() >= {"batch_size", "learning_rate"}
