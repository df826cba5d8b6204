"""What MLflow is told, as plain values: pure functions from the sweep's own words to metrics, params and tags.

MLflow's ``step`` is always samples seen, so that curves of different batch sizes line up. Every value is a function of
one line of the spool, so a line sent twice gives the same points and MLflow keeps one of each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from sweeper.core.decode import encode
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.record import SweepInfo, TrialInfo
from sweeper.core.space import short_number

PREFIX: Final = "sweeper."
NON_FINITE: Final = "non_finite"
"""Metric that is 1 at each step where a value was not finite; the value itself is stored as NaN.

MLflow stores NaN as it is but gives +inf back as 1.797e308, which would pass for a number.
"""
MAX_TAG_CHARACTERS: Final = 5000
"""What MLflow servers from 2.8 on accept; the whole text is in the verdict's artifact."""


SOURCE_COMMIT: Final = "mlflow.source.git.commit"
FINAL: Final = "final/"
"""Where a completed trial's last numbers go."""


SYSTEM: Final = "system/"
"""What MLflow's page of a run shows under system metrics."""
SYSTEM_EXTRAS: Final = ("cpu_cores", "tokens_per_s", "data_wait_share", "model_flops_per_s", "mfu")
"""Signals that speak of the machine and not of the training."""


class Point(NamedTuple):
    """One value of one metric; ``step`` is samples seen."""

    key: str
    value: float
    timestamp_ms: int
    step: int


def points(measurement: Measurement, wall_time_ms: int) -> list[Point]:
    """Return every value of a measurement: one set per optimizer step, then those of the milestone."""
    found: list[Point] = []
    for step, timestamp_ms in _times(measurement.series, wall_time_ms):
        found += _at(step_values(step), timestamp_ms, step.samples_seen)
    return found + _at(milestone_values(measurement), wall_time_ms, measurement.samples_seen)


def step_values(step: StepPoint) -> dict[str, float]:
    """Return the metrics of one optimizer step."""
    return {
        "train/loss": step.loss,
        "train/grad_norm": step.grad_norm,
        "train/learning_rate": step.learning_rate,
        **{f"train/{name}": value for name, value in step.extra.items()},
        "progress/optimizer_step": step.step,
        "progress/tokens_seen": step.tokens_seen,
        "progress/step_s": step.seconds,
    }


def milestone_values(measurement: Measurement) -> dict[str, float]:
    """Return the metrics of one milestone: held-out scores, and the window's means as they were judged."""
    return {
        **{score_key(name): value for name, value in measurement.scores.items()},
        "judged/train_loss": measurement.train_loss,
        "judged/grad_norm": measurement.grad_norm,
        **{_flat("judged/", name): value for name, value in measurement.extra.items() if name not in SYSTEM_EXTRAS},
        "progress/milestone": measurement.milestone,
        "progress/train_s": measurement.train_s,
        "progress/eval_s": measurement.eval_s,
        **{SYSTEM + name: measurement.extra[name] for name in SYSTEM_EXTRAS if name in measurement.extra},
        SYSTEM + "peak_memory_bytes": measurement.peak_memory_bytes,
    }


def score_key(score: str) -> str:
    """Return the metric of a held-out score, e.g. ``score/heldout_loss`` or ``score/exact_match.NAME``."""
    return _flat("score/", score)


def final_points(final: Mapping[str, float], wall_time_ms: int) -> list[Point]:
    """Return a trial's final numbers at step 0: MLflow draws a metric that has no other step as one bar per trial."""
    return _at({_flat(FINAL, name): value for name, value in final.items()}, wall_time_ms, 0)


def trial_params(trial: TrialInfo) -> dict[str, str]:
    """Return what sets the trial apart: its axis values and the numbers derived from them, with their origin."""
    derived = trial.derived
    numbers: dict[str, Any] = {
        "warmup_steps": derived.warmup_steps,
        "warmup_origin": derived.warmup_origin,
        "total_steps": derived.total_steps,
        "planned_samples": derived.planned_samples,
        "train_samples": derived.train_samples,
    }
    return {key: param_text(value) for key, value in {**numbers, **trial.axes}.items()}


def param_text(value: object) -> str:
    """Return a short text: numbers as people write them, anything compound as JSON."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return short_number(value)
    return value if isinstance(value, str) else json.dumps(encode(value))


def sweep_tags(sweep: SweepInfo, sweep_id: str) -> dict[str, str]:
    """Return the tags that the experiment and the summary run share."""
    tags = {
        "sweep": sweep.name,
        "sweep_id": sweep_id,
        "objective": sweep.objective,
        "direction": sweep.direction,
        "milestones": ",".join(map(str, sweep.milestones.samples)),
        "folder": sweep.folder,
        **{f"version.{name}": version for name, version in sweep.versions.items()},
    }
    if sweep.git_commit:
        tags["git_commit"] = sweep.git_commit
    return {PREFIX + key: tag_text(value) for key, value in tags.items()}


def trial_tags(trial: TrialInfo, sweep: SweepInfo, sweep_id: str) -> dict[str, str]:
    """Return the tags a trial's run carries from its start; the fingerprint finds it again."""
    tags = {
        "sweep": sweep.name,
        "sweep_id": sweep_id,
        "fingerprint": trial.fingerprint,
        "trial": trial.name,
        "calibration": str(trial.calibration).lower(),
        "state": "running",
        "git_commit": sweep.git_commit or "",
        "data_hash": trial.data_sha256,
    }
    found = {PREFIX + key: value for key, value in tags.items() if value}
    # MLflow's table of runs shows this one as the version of the source.
    return found | ({SOURCE_COMMIT: sweep.git_commit} if sweep.git_commit else {})


def verdict_tags(verdict: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the tags of a verdict in its JSON form; none for none."""
    if verdict is None:
        return {}
    tags = {"verdict": verdict["decision"], "rule": verdict["rule"], "reason": verdict["reason"]}
    return {PREFIX + key: tag_text(value) for key, value in tags.items()}


def non_finite_tags(found: list[Point]) -> dict[str, str]:
    """Return a tag that names the last non-finite point, where there is one."""
    marks = [point for point in found if point.key == NON_FINITE]
    return {PREFIX + NON_FINITE: f"at {marks[-1].step} samples"} if marks else {}


def tag_text(text: str) -> str:
    """Return ``text``, cut with a mark where a tag cannot hold it."""
    return text if len(text) <= MAX_TAG_CHARACTERS else text[: MAX_TAG_CHARACTERS - 1] + "…"


def _flat(section: str, name: str) -> str:
    """Return a metric of one section: a second slash would make MLflow open a section of its own for it."""
    return section + name.replace("/", ".")


def _at(values: Mapping[str, float], timestamp_ms: int, samples_seen: int) -> list[Point]:
    found = [
        Point(key, float(value) if math.isfinite(value) else math.nan, timestamp_ms, samples_seen)
        for key, value in values.items()
    ]
    if any(math.isnan(point.value) for point in found):
        found.append(Point(NON_FINITE, 1.0, timestamp_ms, samples_seen))
    return found


def _times(series: tuple[StepPoint, ...], wall_time_ms: int) -> Iterator[tuple[StepPoint, int]]:
    """Count back from the milestone, so that MLflow's time axis shows each step where it was taken."""
    remaining_s = sum(step.seconds for step in series if math.isfinite(step.seconds))
    for step in series:
        remaining_s -= step.seconds if math.isfinite(step.seconds) else 0.0
        yield step, wall_time_ms - max(round(1000 * remaining_s), 0)
