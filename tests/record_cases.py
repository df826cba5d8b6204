"""A made-up sweep for tests of the record: deterministic trials and measurements, no model behind them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from sweeper.core.config import DataConfig, ModelConfig, TrainConfig, TrialConfig, fingerprint
from sweeper.core.derive import derive
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.milestones import Milestones
from sweeper.core.record import DataInput, SweepInfo, SweepSummary, TrialInfo, TrialRow, summarise
from sweeper.core.space import cell_name
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.ports import Tracker

SAMPLES = 256
START_MS = 1_700_000_000_000


def sweep_info(folder: Path, *, name: str = "made-up", milestones: int = 4, samples: int = SAMPLES) -> SweepInfo:
    return SweepInfo(
        name=name,
        objective="heldout_loss",
        direction="minimize",
        milestones=Milestones.even(samples, milestones),
        space_yaml=f"sweep: {name}\n",
        folder=str(folder),
        git_commit="0123abc",
        versions={"torch": "2.13.0"},
    )


def trial_info(batch_size: int = 32, learning_rate: float = 1e-3, *, calibration: bool = False) -> TrialInfo:
    axes = {"batch_size": batch_size, "learning_rate": learning_rate}
    config = TrialConfig(
        model=ModelConfig(path="builtin:quickstart"),
        data=DataConfig(train=("train.jsonl",), test={"new": "new.jsonl", "old": "old.jsonl"}),
        train=TrainConfig(batch_size=batch_size, learning_rate=learning_rate, warmup_ratio=0.1),
    )
    return TrialInfo(
        fingerprint=fingerprint(config),
        name=cell_name(axes),
        axes=axes,
        config=config,
        derived=derive(config.train, SAMPLES),
        calibration=calibration,
        data=(
            DataInput(role="train", path="/data/train.jsonl", sha256="a" * 64, samples=1024, tokens=50_000),
            DataInput(role="test", path="builtin:quickstart/new", sha256="b" * 64, samples=256, tokens=9_000),
        ),
        data_sha256="d" * 64,
    )


def grid(learning_rates: Sequence[float] = (1e-4, 1e-3), batch_sizes: Sequence[int] = (32, 64)) -> list[TrialInfo]:
    return [trial_info(batch_size, rate) for batch_size in batch_sizes for rate in learning_rates]


def measurements(trial: TrialInfo, milestones: Milestones, *, explode_at: int | None = None) -> Iterator[Measurement]:
    """Yield what the trial reports; from ``explode_at`` samples on, its loss is +inf and its gradient norm NaN."""
    batch_size, seen, step, passed = trial.config.train.batch_size, 0, 0, 0
    while passed < len(milestones.samples):
        series: list[StepPoint] = []
        while seen < milestones.samples[passed]:
            step, seen = step + 1, seen + batch_size
            exploded = explode_at is not None and seen >= explode_at
            point = StepPoint(
                step=step,
                samples_seen=seen,
                tokens_seen=seen * 37,
                loss=math.inf if exploded else _loss(trial, seen),
                grad_norm=math.nan if exploded else 1.0 + 1.0 / step,
                learning_rate=trial.config.train.learning_rate,
                seconds=0.25,
                extra={"noise_scale": 3.5},
            )
            series.append(point)
        passed = milestones.passed(seen)
        yield _measurement(trial, series, passed, is_last=passed == len(milestones.samples))


def judged(trial: TrialInfo, measurement: Measurement) -> Verdict:
    """Prune what is not finite; let the rest go on."""
    if not math.isfinite(measurement.train_loss):
        reason = f"train_loss is {measurement.train_loss} at {measurement.samples_seen} samples"
        return prune("non_finite", reason, measurement.samples_seen, signals={"train_loss": measurement.train_loss})
    return proceed("early_dynamics", f"{trial.name} ranks 2 of 4 on grad_norm", measurement.samples_seen)


def play(
    tracker: Tracker, sweep: SweepInfo, trials: Sequence[TrialInfo], *, explode: frozenset[str] = frozenset()
) -> SweepSummary:
    """Feed a whole sweep to ``tracker``, one trial after the other; those named in ``explode`` diverge half-way."""
    tracker.open_sweep(sweep)
    rows = [play_trial(tracker, sweep, trial, 128 if trial.name in explode else None) for trial in trials]
    summary = summarise(sweep, rows, elapsed_s=12.0)
    tracker.close_sweep(summary)
    return summary


def play_trial(tracker: Tracker, sweep: SweepInfo, trial: TrialInfo, explode_at: int | None = None) -> TrialRow:
    """Feed one trial from its start to its end and return its line of the summary."""
    tracker.open_trial(trial)
    for measurement in measurements(trial, sweep.milestones, explode_at=explode_at):
        verdict = judged(trial, measurement)
        tracker.measured(trial, measurement, verdict, wall_time_ms(measurement))
        if verdict.prunes or measurement.is_last:
            break
    state = TrialState.PRUNED if verdict.prunes else TrialState.COMPLETE
    tracker.close_trial(trial, state, verdict, {"heldout_loss": measurement.scores["heldout_loss"]})
    return row(trial, state, measurement, verdict)


def row(trial: TrialInfo, state: TrialState, measurement: Measurement, verdict: Verdict) -> TrialRow:
    return TrialRow(
        fingerprint=trial.fingerprint,
        name=trial.name,
        axes=trial.axes,
        state=state.value,
        objective=measurement.scores["heldout_loss"],
        samples_seen=measurement.samples_seen,
        planned_samples=trial.derived.planned_samples,
        train_s=measurement.train_s,
        eval_s=measurement.eval_s,
        rule=verdict.rule if verdict.prunes else "",
        reason=verdict.reason if verdict.prunes else "",
    )


def wall_time_ms(measurement: Measurement) -> int:
    return START_MS + 1000 * measurement.milestone


@cache
def mlflow_tables() -> bytes:
    """Return a SQLite file with MLflow's tables and nothing in them; making one takes 2 to 10 s, so it is made once."""
    from sweeper.adapters.mlflow.store import connect, local_store

    with tempfile.TemporaryDirectory() as folder:
        store = local_store(Path(folder))
        connect(store).search_experiments()
        assert store.sqlite_file is not None
        return store.sqlite_file.read_bytes()


def _loss(trial: TrialInfo, seen: int) -> float:
    return 4.0 - 2.0 * seen / SAMPLES * min(1.0, 0.5 + 200 * trial.config.train.learning_rate)


def _measurement(trial: TrialInfo, series: list[StepPoint], passed: int, *, is_last: bool) -> Measurement:
    last = series[-1]
    return Measurement(
        milestone=passed,
        samples_seen=last.samples_seen,
        tokens_seen=last.tokens_seen,
        step=last.step,
        warmup_done=True,
        train_loss=sum(point.loss for point in series) / len(series),
        grad_norm=sum(point.grad_norm for point in series) / len(series),
        scores={"heldout_loss": last.loss + 0.1, "heldout_loss/old": last.loss, "exact_match": 0.25},
        train_s=0.25 * last.step,
        eval_s=0.125 * passed,
        peak_memory_bytes=400_000_000,
        is_last=is_last,
        series=tuple(series),
        extra={"tokens_per_s": 9000.0, "grad_norm/attention": 0.5},
    )
