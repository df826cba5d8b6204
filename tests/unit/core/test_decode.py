"""Plain data becomes typed values, or an error that names the culprit."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sweeper.core.config import TrialConfig
from sweeper.core.decode import DecodeError, decode, encode
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.verdict import Verdict, prune

MINIMAL: dict[str, Any] = {
    "model": {"path": "model"},
    "data": {"train": ["train.jsonl"]},
    "train": {"batch_size": 8, "learning_rate": 1e-4},
}


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**MINIMAL, section: {**MINIMAL[section], **values}}


def test_a_lone_item_is_a_list_of_one_and_a_lone_test_path_is_named_test() -> None:
    config = decode(TrialConfig, changed("data", train="a.jsonl", test="b.jsonl"))
    assert config.data.train == ("a.jsonl",)
    assert config.data.test == {"test": "b.jsonl"}


def test_whole_numbers_are_valid_floats_but_not_the_other_way_round() -> None:
    assert decode(TrialConfig, changed("train", epochs=2)).train.epochs == 2.0
    with pytest.raises(DecodeError, match=r"must be a whole number, got 8\.0"):
        decode(TrialConfig, changed("train", batch_size=8.0))


@pytest.mark.parametrize(
    ("plain", "where", "message"),
    [
        (changed("train", learning_rte=1.0), "train.learning_rte", "did you mean 'learning_rate'"),
        (changed("train", batch_size="8"), "train.batch_size", "must be a whole number"),
        (changed("train", batch_size=True), "train.batch_size", "must be a whole number"),
        (changed("train", learning_rate=-1e-4), "train.learning_rate", "above 0"),
        (changed("train", learning_rate=math.inf), "train.learning_rate", "finite"),
        (changed("train", engine="fsdp2"), "train.engine", "must be one of fsdp, deepspeed, single"),
        (changed("train", warmup_steps=1, warmup_ratio=0.1), "train.warmup_ratio", "only one warmup key"),
        (changed("train", engine="single", ranks=2), "train.ranks", "one rank"),
        (changed("data", train=[]), "data.train", "at least one"),
        (changed("data", train=[1]), "data.train.0", "must be text"),
        (changed("model", path=" "), "model.path", "must name a model"),
        ({**MINIMAL, "train": None}, "train", "must be a mapping"),
        ({**MINIMAL, "optimizer": {}}, "optimizer", "unknown key"),
        ({"model": MINIMAL["model"]}, "", "'data' is required"),
    ],
)
def test_what_does_not_fit_is_refused_by_place_and_rule(plain: Any, where: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message) as caught:
        decode(TrialConfig, plain)
    assert ".".join(map(str, caught.value.path)) == where


def test_encode_is_undone_by_decode() -> None:
    config = decode(TrialConfig, MINIMAL)
    assert decode(TrialConfig, encode(config)) == config


def test_non_finite_measurements_survive_json() -> None:
    point = StepPoint(
        step=1, samples_seen=8, tokens_seen=80, loss=math.inf, grad_norm=math.nan, learning_rate=0.1, seconds=1.0
    )
    measurement = Measurement(
        milestone=1,
        samples_seen=8,
        tokens_seen=80,
        step=1,
        warmup_done=True,
        train_loss=math.nan,
        grad_norm=-math.inf,
        scores={"heldout_loss": math.nan},
        train_s=1.0,
        eval_s=0.0,
        peak_memory_bytes=1,
        is_last=False,
        series=(point,),
    )
    plain = measurement.to_json()
    assert plain["train_loss"] == "NaN"
    assert plain["grad_norm"] == "-Infinity"
    back = Measurement.from_json(plain)
    assert math.isnan(back.train_loss)
    assert back.series[0].loss == math.inf
    assert back.to_json() == plain


def test_a_verdict_survives_json_and_cannot_lack_a_reason() -> None:
    verdict = prune("divergence", "loss 9 is above 3", 64, signals={"train_loss": 9.0}, threshold=3.0)
    assert Verdict.from_json(verdict.to_json()) == verdict
    with pytest.raises(ValueError, match="needs a rule and a reason"):
        prune("divergence", " ", 64)
