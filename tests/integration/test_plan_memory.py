"""Calculated memory against the bytes alive in real training steps; ``benchmarks.plan_memory`` does many more."""

from __future__ import annotations

import pytest

from benchmarks.plan_memory import CASES, Case, counted
from sweeper.core.memory import estimate
from sweeper.core.shape import shape_of

pytestmark = pytest.mark.long
TRIED = [case for case in CASES if case.shape == "llama 4M" and case.config.engine == "single"][1:4:2]


@pytest.mark.parametrize("case", TRIED, ids=str)
def test_what_is_planned_is_at_most_five_percent_too_low_and_ten_too_high(case: Case) -> None:
    peak, config = counted(case)
    shape = shape_of(config)
    assert shape is not None
    planned = estimate(shape, case.config, case.load, "cpu").device
    assert 0.95 * peak <= planned <= 1.1 * peak


def test_an_accumulating_and_a_checkpointing_case_are_tried() -> None:
    assert [case.micro_batches for case in TRIED] == [2, 1]
    assert [case.config.activation_checkpointing for case in TRIED] == [False, True]
