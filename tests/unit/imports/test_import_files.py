"""Logs of other trainers as recorded curves: what is taken over, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers.trainer_callback import TrainerState

from sweeper.cli import main
from sweeper.core.errors import InputError
from sweeper.imports import jsonl_logs, trainer_state
from sweeper.imports.runs import Wanted, curves
from sweeper.replay.curves import Grid, load_curves


def write_trainer_state(folder: Path, *, peak: float, final: float, steps: int = 40, planned: int = 40) -> None:
    """Write what the Trainer writes, by its own class, with a log at every tenth step and an evaluation at each."""
    history: list[dict[str, float]] = []
    for step in range(10, steps + 1, 10):
        history.append(
            {"step": step, "loss": 3.0 - step / 40, "grad_norm": 1.5, "learning_rate": peak, "epoch": step / 40}
        )
        history.append(
            {"step": step, "eval_loss": final + (steps - step) / 40, "eval_runtime": 1.0, "epoch": step / 40}
        )
    history.append({"step": steps, "train_loss": 2.4, "train_runtime": 60.0, "epoch": 1.0})
    folder.mkdir(parents=True)
    state = TrainerState(
        global_step=steps, max_steps=planned, train_batch_size=4, num_train_epochs=1, log_history=history
    )
    state.save_to_json(str(folder / "trainer_state.json"))


def write_settings(folder: Path, **changes: Any) -> None:
    plain = {"learning_rate": 1e-4, "gradient_accumulation_steps": 2, "output_dir": str(folder)} | changes
    (folder / "training_args.json").write_text(json.dumps(plain))


@pytest.fixture
def trainer_runs(tmp_path: Path) -> Path:
    for name, peak, final in (("low", 1e-5, 1.5), ("high", 1e-4, 1.2)):
        write_trainer_state(tmp_path / "runs" / name, peak=peak, final=final)
        write_settings(tmp_path / "runs" / name, learning_rate=peak)
    return tmp_path / "runs"


def imported(tmp_path: Path, *arguments: str) -> Grid:
    assert main(["import", *arguments, "--out", str(tmp_path / "grid.jsonl")]) == 0
    return load_curves(tmp_path / "grid.jsonl")


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    """Return the one line on standard error; nothing may have been written."""
    assert main(["import", *arguments, "--out", str(tmp_path / "none.jsonl")]) == 2
    assert not list(tmp_path.glob("*none*"))
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_trainer_states_come_over_on_the_samples_axis(trainer_runs: Path, tmp_path: Path) -> None:
    grid = imported(tmp_path, "trainer-state", str(trainer_runs), "--set", "world_size=2")
    assert grid.direction == "minimize"
    trials = {trial.name: trial for trial in grid.trials}
    assert {name: trial.final for name, trial in trials.items()} == {"low": 1.5, "high": 1.2}
    high = trials["high"]
    assert [point.resource for point in high.points] == [160, 320, 480, 640], "4 per device, 2 accumulated, 2 processes"
    assert high.points[0].signals == {"train_loss": 2.75, "grad_norm": 1.5, "objective": pytest.approx(1.95)}
    assert high.config == {"learning_rate": 1e-4, "epochs": 1, "batch_size": 16}
    assert grid.axes() == [{"learning_rate": 1e-4}, {"learning_rate": 1e-5}]


def test_what_is_imported_can_be_replayed_and_reported(
    trainer_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    imported(tmp_path, "trainer-state", str(trainer_runs), "--set", "batch_size=16")
    assert main(["replay", "grid.jsonl", "--pruner", "median", "--orders", "1", "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["grid"] == "grid"
    assert main(["report", "grid.jsonl"]) == 0
    assert "high" in (tmp_path / "grid-report" / "report.html").read_text()


def test_without_an_effective_batch_size_the_missing_part_is_named(
    trainer_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, tmp_path, "trainer-state", str(trainer_runs))
    assert "effective batch size is not known" in message
    assert "got ['gradient_accumulation_steps', 'per_device_train_batch_size']" in message
    assert "--set batch_size=N" in message


def test_the_newest_checkpoint_of_a_run_counts_and_one_that_was_cut_off_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trainer_state(tmp_path / "runs" / "a" / "checkpoint-9", peak=1e-4, final=9.0)
    write_trainer_state(tmp_path / "runs" / "a" / "checkpoint-40", peak=1e-4, final=1.0)
    write_trainer_state(tmp_path / "runs" / "cut", peak=1e-4, final=2.0, steps=20)
    grid = imported(tmp_path, "trainer-state", str(tmp_path / "runs"), "--set", "batch_size=8")
    assert [(trial.name, trial.final) for trial in grid.trials] == [("a", 1.0)]
    assert "cut is left out, ended at step 20 of 40" in capsys.readouterr().err


def instructlab_lines(rate: float, final: float) -> list[dict[str, Any]]:
    """Return the lines of instructlab-training 0.16: settings first, a line a step, validations of their own."""
    lines: list[dict[str, Any]] = [
        {"learning_rate": rate, "effective_batch_size": 100, "output_dir": "/out", "seed": 42}
    ]
    for step in range(1, 5):
        # Packing fills a step up to a number of tokens: samples are not steps times the batch.
        lines.append({"step": step, "avg_loss": 3.0 / step, "gradnorm": 2.0, "lr": rate, "samples_seen": 97 * step})
        if step % 2 == 0:
            lines.append({"step": step, "val_loss": final + 4 - step, "val_num_tokens": 10})
    return lines


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_instructlab_logs_bring_their_own_samples(tmp_path: Path) -> None:
    for name, rate, final in (("a", 1e-5, 1.0), ("b", 2e-5, 0.9)):
        lines = instructlab_lines(rate, final)
        write_lines(tmp_path / "logs" / name / "training_params_and_metrics_global0.jsonl", lines)
    grid = imported(tmp_path, "jsonl", str(tmp_path / "logs"))
    first = grid.trials[0]
    assert [point.resource for point in first.points] == [97, 194, 291, 388]
    assert [point.signals.get("objective") for point in first.points] == [None, 3.0, None, 1.0]
    assert first.config == {"batch_size": 100, "learning_rate": 1e-5, "seed": 42}


def test_a_score_that_is_repeated_at_every_step_counts_where_it_was_measured(tmp_path: Path) -> None:
    """As mini-trainer does, whose settings lie beside its log."""
    lines = [
        {"step": n, "loss": 2.0, "grad_norm": 1.0, "total_samples_accumulated": 64 * n, "val_loss": value}
        for n, value in enumerate((None, 1.9, 1.9, 1.7), start=1)
    ]
    write_lines(tmp_path / "run" / "training_metrics_0.jsonl", lines)
    (tmp_path / "run" / "training_params.json").write_text(json.dumps({"learning_rate": 3e-6, "batch_size": 64}))
    (trial,) = imported(tmp_path, "jsonl", str(tmp_path / "run")).trials
    assert [point.signals.get("objective") for point in trial.points] == [None, 1.9, None, 1.7]
    assert trial.config["learning_rate"] == 3e-6


def test_values_that_are_not_finite_stay_what_they_were(tmp_path: Path) -> None:
    lines = instructlab_lines(1e-5, 1.0)
    lines[2]["avg_loss"] = float("nan")
    lines[-2]["gradnorm"] = float("inf")
    write_lines(tmp_path / "run.jsonl", lines)
    (trial,) = imported(tmp_path, "jsonl", str(tmp_path / "run.jsonl")).trials
    assert [repr(point.signals["train_loss"]) for point in trial.points] == ["3.0", "nan", "1.0", "0.75"]
    assert [repr(point.signals["grad_norm"]) for point in trial.points] == ["2.0", "2.0", "2.0", "inf"]


def test_runs_that_nothing_sets_apart_are_refused_until_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_lines(tmp_path / f"{name}.jsonl", instructlab_lines(1e-5, 1.0))
    paths = [str(tmp_path / f"{name}.jsonl") for name in ("a", "b")]
    assert "no known setting differs between the 2 runs" in refused(capsys, tmp_path, "jsonl", *paths)
    grid = imported(tmp_path, "jsonl", f"{paths[0]}@learning_rate=1e-4", paths[1])
    assert grid.axes() == [{"learning_rate": 1e-4}, {"learning_rate": 1e-5}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trainer-state", "nowhere"), "holds no trainer_state.json"),
        (("jsonl", "nowhere"), "holds no log"),
        (("jsonl", "{run}", "--objective", "accuracy"), "say which way is better"),
        (("jsonl", "{run}", "--objective", "accuracy_loss"), "never logged 'accuracy_loss'"),
        (("jsonl", "{run}", "--set", "batch_size"), "must have the form key=value"),
        (("mlflow", "mine", "--tracking", "sqlite:////nowhere/mlflow.db"), "no such file"),
    ],
)
def test_wrong_use_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    write_lines(tmp_path / "run.jsonl", instructlab_lines(1e-5, 1.0))
    given = [argument.replace("{run}", str(tmp_path / "run.jsonl")) for argument in arguments]
    assert message in refused(capsys, tmp_path, *given)


WHOLE = "".join(json.dumps(line) + "\n" for line in instructlab_lines(1e-5, 1.0)).encode()
NAMES = st.sampled_from(
    ["step", "samples_seen", "loss", "val_loss", "batch_size", "log_history", "global_step", "max_steps"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
LINES = st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=4)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def told(path: Path) -> str:
    """Return what is said against a file by either reader; anything but one refusal is an error of ours."""
    said = []
    for read in (jsonl_logs.read, trainer_state.read):
        try:
            curves("grid", read(path), Wanted())
        except InputError as error:
            said.append(str(error))
    return "".join(said)


@few
@given(place=st.integers(0, len(WHOLE) - 1), put=st.binary(max_size=4))
def test_damaged_bytes_are_refused_with_one_line(tmp_path: Path, place: int, put: bytes) -> None:
    (tmp_path / "broken.jsonl").write_bytes(WHOLE[:place] + put + WHOLE[place + len(put) :])
    assert "\n" not in told(tmp_path / "broken.jsonl")


@few
@given(lines=LINES)
@example(lines=[{"step": [1], "loss": 1.0}])
@example(lines=[{"log_history": [{"step": {}, "loss": 1}], "global_step": 1, "max_steps": 1}])
def test_values_of_the_wrong_kind_are_refused_with_one_line(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    (tmp_path / "broken.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "\n" not in told(tmp_path / "broken.jsonl")
