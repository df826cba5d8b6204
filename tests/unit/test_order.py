from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.order import MAX_WAITING, Order, Outcome, calibration_cells, embed

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
    calibration = calibration_cells(GRID, 5, seed)
    order = Order(dict(enumerate(GRID)), calibration=calibration, maximize=maximize, seed=seed)
    taken = run_through(order, len(GRID), lambda key: sign * score(GRID[key]))
    assert sorted(taken) == list(range(len(GRID)))
    assert taken[:5] == calibration
    best = {i for i, cell in enumerate(GRID) if score(cell) == min(map(score, GRID))}
    assert min(taken.index(i) for i in best) < 10


def run_through(order: Order, cells: int, value) -> list[int]:
    """Take cells until none waits, each with the outcome ``value(key)``."""
    waiting, outcomes, taken = dict.fromkeys(range(cells)), {}, []
    while (key := order.next(waiting, outcomes)) is not None:
        taken.append(key)
        del waiting[key]
        outcomes[key] = Outcome(value=value(key))
    return taken


def test_cells_near_one_that_broke_wait():
    order = Order({"near": {"lr": 8e-3}, "far": {"lr": 1e-5}, "broken": {"lr": 1e-2}, "good": {"lr": 1e-4}})
    outcomes = {"broken": Outcome(value=None, broke=True), "good": Outcome(value=1.0)}
    assert order.next(["near", "far"], outcomes) == "far"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_an_outcome_without_a_usable_value_teaches_nothing(value):
    order = Order(dict(enumerate(GRID)), seed=4)
    waiting = range(4, len(GRID))
    assert order.next(waiting, {3: Outcome(value=value)}) == order.next(waiting, {})


def test_nothing_waiting_gives_nothing():
    assert Order({}).next([], {}) is None
    assert Order({"gone": {"lr": 1}}, calibration=["gone"]).next([], {}) is None


def test_a_choice_is_the_same_each_time_also_among_more_cells_than_it_looks_at():
    cells = {place: {"x": place} for place in range(4 * MAX_WAITING)}
    outcomes = {place: Outcome(value=abs(place - 300.0)) for place in cells if place % 2 == 0}
    waiting = [place for place in cells if place % 2]
    chosen = {Order(cells, seed=1).next(waiting, outcomes) for _ in range(3)}
    assert len(chosen) == 1
    assert abs(chosen.pop() - 300) < 100, "it lies near the best ones"


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
    taken = run_through(Order(dict(enumerate(cells)), seed=seed), len(cells), float)
    assert sorted(taken) == list(range(len(cells)))


def test_every_cell_comes_exactly_once_also_among_more_cells_than_a_choice_looks_at():
    count = MAX_WAITING + 40
    taken = run_through(Order({place: {"x": place} for place in range(count)}), count, float)
    assert sorted(taken) == list(range(count))
