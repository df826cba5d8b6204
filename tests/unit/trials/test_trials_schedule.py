"""The learning rate of every step, as tables."""

import pytest

from trials.schedule import learning_rate


def rates(schedule: str, *, total_steps: int, warmup_steps: int = 0) -> list[float]:
    return [
        round(learning_rate(schedule, 1.0, step=step, total_steps=total_steps, warmup_steps=warmup_steps), 4)
        for step in range(total_steps)
    ]


@pytest.mark.parametrize(
    ("schedule", "warmup_steps", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1]),
        ("constant", 1, [1, 1, 1, 1, 1]),
        ("constant", 4, [0.25, 0.5, 0.75, 1, 1]),
        ("linear", 0, [1, 0.8, 0.6, 0.4, 0.2]),
        ("linear", 3, [0.3333, 0.6667, 1, 1, 0.5]),
        ("cosine", 0, [1, 0.9045, 0.6545, 0.3455, 0.0955]),
        ("cosine", 3, [0.3333, 0.6667, 1, 1, 0.5]),
    ],
)
def test_every_step_has_the_rate_of_the_table(schedule: str, warmup_steps: int, expected: list[float]) -> None:
    assert rates(schedule, total_steps=5, warmup_steps=warmup_steps) == expected


def test_wsd_holds_the_peak_and_falls_over_the_last_tenth() -> None:
    found = rates("wsd", total_steps=40, warmup_steps=2)
    assert found == [0.5, *[1.0] * 36, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd"])
@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 30])
def test_no_step_is_taken_at_rate_zero_or_above_the_peak(schedule: str, warmup_steps: int) -> None:
    assert all(0 < rate <= 1 for rate in rates(schedule, total_steps=30, warmup_steps=warmup_steps))
