from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.order import Outcome, calibration_cells, embed, next_cell

GRID = [
    {"batch_size": batch, "learning_rate": rate, "warmup_steps": warmup}
    for batch, rate, warmup in itertools.product((16, 64, 256), (1e-5, 1e-4, 1e-3, 1e-2), (0, 25))
]


def test_a_wide_positive_axis_is_laid_out_logarithmically():
    points = embed([{"lr": 1e-6}, {"lr": 1e-4}, {"lr": 1e-2}])
    assert points[:, 0] == pytest.approx([0.0, 0.5, 1.0])


def test_a_narrow_axis_or_one_with_zero_is_laid_out_linearly():
    assert embed([{"w": 0}, {"w": 25}, {"w": 100}])[:, 0] == pytest.approx([0.0, 0.25, 1.0])
    assert embed([{"w": 2}, {"w": 3}, {"w": 4}])[:, 0] == pytest.approx([0.0, 0.5, 1.0])


def test_two_values_of_a_categorical_axis_are_one_apart():
    points = embed([{"schedule": "constant"}, {"schedule": "cosine"}, {"schedule": None}])
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2)]
    assert distances == pytest.approx([1.0, 1.0, 1.0])


def test_a_constant_axis_moves_nothing():
    assert np.ptp(embed([{"x": 5, "y": 1}, {"x": 5, "y": 2}])[:, 0]) == 0


def gap(cells) -> float:
    points = embed(GRID)[list(cells)]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(points, 2))


def test_calibration_cells_are_spread_wider_than_random_ones():
    rng = np.random.default_rng(0)
    random_gaps = [gap(rng.choice(len(GRID), 5, replace=False)) for _ in range(200)]
    for seed in range(5):
        chosen = calibration_cells(GRID, 5, seed)
        assert len(set(chosen)) == 5
        assert gap(chosen) > np.quantile(random_gaps, 0.9)


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (24, 24), (99, 24)])
def test_as_many_calibration_cells_as_asked_and_there_are(count, expected):
    assert len(set(calibration_cells(GRID, count, 0))) == expected


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        calibration_cells(GRID, -1, 0)


def test_the_choice_hangs_on_the_seed_alone_and_not_on_the_order_of_the_cells():
    for seed in range(3):
        chosen = [GRID[i] for i in calibration_cells(GRID, 4, seed)]
        backwards = GRID[::-1]
        assert [backwards[i] for i in calibration_cells(backwards, 4, seed)] == chosen


def score(cell) -> float:
    """A bowl with its best cell at batch 64, rate 1e-4."""
    return (math.log10(cell["learning_rate"]) + 4) ** 2 + 0.3 * abs(math.log2(cell["batch_size"] / 64))


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_cell_comes_early_after_calibration(maximize, seed):
    sign = -1 if maximize else 1
    waiting = dict(enumerate(GRID))
    calibration = calibration_cells(GRID, 5, seed)
    outcomes, order = [], []
    while (key := next_cell(waiting, outcomes, calibration=calibration, maximize=maximize, seed=seed)) is not None:
        order.append(key)
        outcomes.append(Outcome(axes=GRID[key], value=sign * score(waiting.pop(key))))
    assert sorted(order) == list(range(len(GRID)))
    assert order[:5] == calibration
    best = {i for i, cell in enumerate(GRID) if score(cell) == min(map(score, GRID))}
    assert min(order.index(i) for i in best) < 10


def test_cells_near_one_that_broke_wait():
    waiting = {"near": {"lr": 8e-3}, "far": {"lr": 1e-5}}
    outcomes = [Outcome(axes={"lr": 1e-2}, value=None, broke=True), Outcome(axes={"lr": 1e-4}, value=1.0)]
    assert next_cell(waiting, outcomes) == "far"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_an_outcome_without_a_usable_value_teaches_nothing(value):
    waiting = dict(enumerate(GRID))
    taught = next_cell(waiting, [Outcome(axes=GRID[3], value=value)], seed=4)
    assert taught == next_cell(waiting, [], seed=4)


def test_nothing_waiting_gives_nothing():
    assert next_cell({}, []) is None
    assert next_cell({}, [], calibration=["gone"]) is None


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(
        st.fixed_dictionaries({"lr": st.sampled_from([1e-5, 1e-3, 1e-1]), "kind": st.sampled_from(["a", None, 3])}),
        min_size=1,
        max_size=9,
        unique_by=lambda cell: (cell["lr"], str(cell["kind"])),
    ),
    seed=st.integers(0, 5),
)
def test_every_cell_comes_exactly_once(cells, seed):
    waiting, outcomes, order = dict(enumerate(cells)), [], []
    while (key := next_cell(waiting, outcomes, seed=seed)) is not None:
        order.append(key)
        outcomes.append(Outcome(axes=waiting.pop(key), value=float(len(order))))
    assert sorted(order) == list(range(len(cells)))
