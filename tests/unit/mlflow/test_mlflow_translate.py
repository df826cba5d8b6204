from __future__ import annotations

import math
from pathlib import Path

import pytest
from record_cases import measurements, sweep_info, trial_info

from sweeper.adapters.mlflow import translate
from sweeper.core.measurement import Measurement
from sweeper.core.verdict import prune


def _first(explode_at: int | None = None) -> Measurement:
    return next(measurements(trial_info(), sweep_info(Path("/s"), milestones=2).milestones, explode_at=explode_at))


def test_every_optimizer_step_gives_its_signals_at_its_samples_seen() -> None:
    measurement = _first()
    found = translate.points(measurement, 50_000)
    for key in ("train/loss", "train/grad_norm", "train/learning_rate", "train/noise_scale", "progress/optimizer_step"):
        assert [point.step for point in found if point.key == key] == [32, 64, 96, 128]
    assert [point.value for point in found if point.key == "train/loss"] == [step.loss for step in measurement.series]


def test_the_milestone_gives_its_scores_and_the_judged_means_once() -> None:
    measurement = _first()
    values = {point.key: point for point in translate.points(measurement, 50_000) if point.step == 128}
    assert values["score/heldout_loss"].value == measurement.scores["heldout_loss"]
    assert values["score/heldout_loss.old"].value == measurement.scores["heldout_loss/old"]
    assert values["score/exact_match"].value == 0.25
    assert values["judged/train_loss"].value == measurement.train_loss
    assert values["system/tokens_per_s"].value == 9000.0
    assert values["judged/grad_norm.attention"].value == 0.5


def test_step_times_count_back_from_the_milestone() -> None:
    times = [point.timestamp_ms for point in translate.points(_first(), 50_000) if point.key == "train/loss"]
    assert times == [49_250, 49_500, 49_750, 50_000]


def test_the_same_measurement_gives_the_same_points() -> None:
    assert translate.points(_first(), 50_000) == translate.points(_first(), 50_000)


def test_no_two_points_share_key_and_step() -> None:
    places = [(point.key, point.step) for point in translate.points(_first(), 50_000)]
    assert len(places) == len(set(places))


def test_what_is_not_finite_becomes_nan_and_is_marked() -> None:
    found = translate.points(_first(explode_at=96), 50_000)
    losses = [point.value for point in found if point.key == "train/loss"]
    assert [math.isnan(value) for value in losses] == [False, False, True, True]
    assert not any(math.isinf(point.value) for point in found)
    assert [point.step for point in found if point.key == translate.NON_FINITE] == [96, 128, 128]
    assert translate.non_finite_tags(found) == {"sweeper.non_finite": "at 128 samples"}


def test_finite_measurements_carry_no_mark() -> None:
    assert translate.non_finite_tags(translate.points(_first(), 50_000)) == {}


def test_params_are_the_axes_and_the_derived_numbers_with_their_origin() -> None:
    assert translate.trial_params(trial_info(batch_size=32, learning_rate=1e-3)) == {
        "batch_size": "32",
        "learning_rate": "1e-3",
        "warmup_steps": "1",
        "warmup_origin": "warmup_ratio",
        "total_steps": "8",
        "planned_samples": "256",
        "train_samples": "256",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(3840, "3840"), (2e-5, "2e-5"), ("cosine", "cosine"), (True, "true"), (None, "null"), (("a", "b"), '["a", "b"]')],
)
def test_param_texts_are_short(value: object, text: str) -> None:
    assert translate.param_text(value) == text


def test_a_verdict_becomes_tags_and_a_long_reason_is_cut_with_a_mark() -> None:
    tags = translate.verdict_tags(prune("non_finite", "x" * 6000, 10).to_json())
    assert tags["sweeper.verdict"] == "prune"
    assert tags["sweeper.rule"] == "non_finite"
    assert len(tags["sweeper.reason"]) == translate.MAX_TAG_CHARACTERS
    assert tags["sweeper.reason"].endswith("…")
