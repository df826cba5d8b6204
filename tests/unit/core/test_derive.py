"""Derived numbers, infeasible cells and milestones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.core.config import DataConfig, ModelConfig, TrainConfig, TrialConfig, fingerprint
from sweeper.core.derive import derive, infeasible_reason
from sweeper.core.errors import InputError
from sweeper.core.milestones import Milestones


def config(batch_size: int = 8, **values: object) -> TrialConfig:
    train = TrainConfig(batch_size=batch_size, learning_rate=1e-4, **values)  # type: ignore[arg-type]
    return TrialConfig(model=ModelConfig(path="m"), data=DataConfig(train=("t",)), train=train)


@pytest.mark.parametrize(
    ("values", "steps", "origin"),
    [
        ({}, 0, "default"),
        ({"warmup_steps": 3}, 3, "warmup_steps"),
        ({"warmup_samples": 17}, 3, "warmup_samples"),
        ({"warmup_ratio": 0.1}, 2, "warmup_ratio"),
        ({"warmup_ratio": 0.0}, 0, "warmup_ratio"),
    ],
)
def test_warmup_comes_from_the_key_that_was_given(values: dict[str, float], steps: int, origin: str) -> None:
    numbers = derive(config(**values).train, train_samples=100)
    assert numbers.total_steps == 13  # ceil(100 / 8)
    assert (numbers.warmup_steps, numbers.warmup_origin) == (steps, origin)


def test_the_paper_s_lab_warmup_of_one_percent_is_about_25_steps() -> None:
    # 825,487 samples, 10 epochs, batch 3,840: 2,150 steps; Table 1 of arXiv 2412.13337 rounds 21.5 to 25.
    numbers = derive(config(3840, epochs=10.0, warmup_ratio=0.01).train, train_samples=825_487)
    assert (numbers.total_steps, numbers.warmup_steps) == (2150, 22)


@given(samples=st.integers(1, 10_000), batch=st.integers(1, 2_000), epochs=st.floats(0.01, 20))
def test_training_sees_the_planned_samples_and_less_than_a_batch_more(samples: int, batch: int, epochs: float) -> None:
    numbers = derive(config(batch, epochs=epochs).train, samples)
    seen = numbers.total_steps * batch
    assert numbers.planned_samples <= seen < numbers.planned_samples + batch


def test_a_batch_larger_than_the_data_is_infeasible_with_both_numbers() -> None:
    reason = infeasible_reason(config(128), train_samples=100)
    assert reason is not None
    assert "128" in reason
    assert "100" in reason


def test_a_warmup_as_long_as_training_is_infeasible() -> None:
    assert infeasible_reason(config(8, warmup_steps=12), 100) is None
    reason = infeasible_reason(config(8, warmup_steps=13), 100)
    assert reason is not None
    assert "warmup" in reason


@given(planned=st.integers(1, 10_000), count=st.integers(1, 50))
def test_even_milestones_rise_and_end_at_the_planned_samples(planned: int, count: int) -> None:
    milestones = Milestones.even(planned, count)
    assert milestones.last == planned
    assert len(milestones.samples) <= count
    assert milestones.passed(planned) == len(milestones.samples)
    assert milestones.next_after(planned) is None
    assert milestones.next_after(0) == milestones.samples[0]


def test_a_large_step_passes_several_milestones() -> None:
    milestones = Milestones.even(100, 10)
    assert milestones.passed(35) == 3
    assert milestones.next_after(35) == 40


def test_milestones_must_rise() -> None:
    with pytest.raises(InputError, match="rising"):
        Milestones((10, 10))


def test_the_fingerprint_follows_the_numbers_and_nothing_else() -> None:
    assert fingerprint(config(8)) == fingerprint(config(8, warmup_steps=None))
    assert fingerprint(config(8)) != fingerprint(config(16))
    assert fingerprint(config(8)) != fingerprint(config(8, warmup_steps=0))
    assert len(fingerprint(config(8))) == 16
