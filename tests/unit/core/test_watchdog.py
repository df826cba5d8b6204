"""How long a gang may be silent."""

from __future__ import annotations

import pytest

from sweeper.core.watchdog import MIN_LIMIT_S, PATIENCE, Stretch, samples_ahead, time_limit_s


def stretch(seconds: float, samples: int = 100) -> Stretch:
    return Stretch(samples=samples, seconds=seconds)


@pytest.mark.parametrize(
    ("past", "samples", "is_new_work", "expected"),
    [
        ([], 100, False, 7200.0),
        ([stretch(100)], 100, False, PATIENCE * 100),
        ([stretch(100)], 300, False, PATIENCE * 300),
        ([stretch(100), stretch(200), stretch(100)], 100, False, PATIENCE * 200),
        ([stretch(0.1)], 100, False, MIN_LIMIT_S),
        ([stretch(100)], 100, True, PATIENCE * 100 + 7200),
    ],
)
def test_the_limit_is_learned_from_the_slowest_stretch(
    past: list[Stretch], samples: int, is_new_work: bool, expected: float
) -> None:
    assert time_limit_s(past, samples, first_limit_s=7200, is_new_work=is_new_work) == pytest.approx(expected)


def test_a_user_who_sets_a_short_first_limit_is_never_made_to_wait_for_the_least_one() -> None:
    assert time_limit_s([stretch(0.1)], 100, first_limit_s=5) == 5


@pytest.mark.parametrize(
    ("seen", "batch_size", "expected"),
    [(0, 16, 112), (100, 16, 112), (112, 16, 96), (0, 256, 256), (256, 256, 256), (300, 16, 16)],
)
def test_a_stretch_is_whole_steps_to_the_first_one_at_or_past_the_milestone(
    seen: int, batch_size: int, expected: int
) -> None:
    assert samples_ahead(seen, (100, 200, 300), batch_size) == expected
