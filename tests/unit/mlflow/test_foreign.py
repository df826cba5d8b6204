"""What a trainer logs to MLflow by itself, as measurements."""

from __future__ import annotations

import math
import sys

import pytest

from sweeper.adapters.mlflow.foreign import Row, Steps, _number
from sweeper.core.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from sweeper.core.derive import derive
from sweeper.core.errors import InputError
from sweeper.core.milestones import Milestones
from sweeper.core.program import ProgramConfig


def steps(**program: object) -> Steps:
    config = TrialConfig(
        model=ModelConfig(path="m"),
        data=DataConfig(train=("d",)),
        train=TrainConfig(batch_size=10, learning_rate=0.1),
        trial=ProgramConfig(train_samples=40, command="x", signals="mlflow", **program),  # type: ignore[arg-type]
    )
    return Steps(config, derive(config.train, 40), Milestones.even(40, 2))


def logged(step: int, at_ms: int = 0, **values: float) -> list[Row]:
    return [Row(key.replace("__", "/"), value, step, at_ms) for key, value in values.items()]


def test_a_step_counts_once_a_later_one_is_logged_with_all_its_scores() -> None:
    found = steps()
    found.began_ms = 0
    found.add(logged(1, 1000, loss=4.0, grad_norm=2.0) + logged(2, 2000, loss=2.0, grad_norm=1.0))
    assert found.next() is None, "step 2 may get an evaluation yet"
    found.add(logged(2, 2600, eval_loss=3.0, eval_runtime=0.5) + logged(3, 4000, loss=1.0, grad_norm=1.0))
    first = found.next()
    assert first is not None
    assert (first.milestone, first.samples_seen, first.train_loss, first.grad_norm) == (1, 20, 3.0, 1.5)
    assert first.scores == {"heldout_loss": 3.0}
    assert (first.train_s, first.eval_s) == (1.5, 0.5)
    found.add(logged(4, 5000, loss=1.0, grad_norm=1.0, eval_loss=2.0))
    last = found.last()
    assert (last.milestone, last.is_last, last.samples_seen, last.scores) == (2, True, 40, {"heldout_loss": 2.0})


def test_names_and_what_steps_count_can_be_said() -> None:
    found = steps(metrics={"loss": "train/l", "grad_norm": "g", "accuracy": "acc"}, steps="samples")
    found.add(logged(20, train__l=1.0, g=2.0, acc=0.5) + logged(40, train__l=1.0, g=2.0))
    first = found.next()
    assert first is not None
    assert (first.samples_seen, first.step, first.scores) == (20, 2, {"accuracy": 0.5})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has logged no 'loss'"),
        (logged(1, train_loss=1.0), "got ['train_loss']"),
        (logged(1, loss=1.0), "without 'grad_norm'"),
        (logged(1, loss=1.0, grad_norm=1.0), "ended after 10 of 40 planned samples"),
    ],
)
def test_a_log_that_is_of_no_use_is_refused_with_what_was_found(rows: list[Row], message: str) -> None:
    found = steps()
    found.add(rows)
    with pytest.raises(InputError) as caught:
        found.last()
    assert message in str(caught.value)


def test_mlflow_keeps_nan_apart_and_infinity_as_the_largest_number() -> None:
    assert math.isnan(_number(0.0, 1))
    assert _number(-sys.float_info.max, 0) == -math.inf
    assert _number(2.0, 0) == 2.0
