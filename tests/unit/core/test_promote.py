"""Promotion: which paused trial goes on, at which rungs, and whether its state is worth keeping."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.core.errors import InputError
from sweeper.core.promote import Promotion, Rungs, Standing, keeps_state

CELLS = {(x, y): {"x": x, "y": y} for x, y in itertools.product(range(5), range(5))}
UNKNOWN = Standing(early=None)


def test_with_nothing_known_the_trial_nearest_to_the_centre_goes_first():
    assert Promotion(CELLS).ranked(list(CELLS), dict.fromkeys(CELLS, UNKNOWN))[0] == (2, 2)


def test_with_nothing_known_and_a_random_start_the_seed_draws_the_first():
    firsts = {
        Promotion(CELLS, seed=seed, start="random").ranked(list(CELLS), dict.fromkeys(CELLS, UNKNOWN))[0]
        for seed in range(8)
    }
    assert len(firsts) > 1


def test_while_one_trial_runs_a_second_gang_takes_one_far_from_it():
    standings = {**dict.fromkeys(CELLS, UNKNOWN), (0, 0): Standing(early=None, runs=True)}
    paused = [key for key in CELLS if key != (0, 0)]
    assert Promotion(CELLS).ranked(paused, standings)[0] == (4, 4)


@pytest.mark.parametrize("maximize", [False, True])
def test_trials_near_the_best_ends_go_before_trials_near_the_worst(maximize):
    sign = -1.0 if maximize else 1.0
    ended = {key: Standing(early=None, value=sign * float(key[0])) for key in CELLS if key[1] != 2}
    paused = [(0, 2), (2, 2), (4, 2)]
    standings = {**ended, **dict.fromkeys(paused, UNKNOWN)}
    assert Promotion(CELLS, maximize=maximize).ranked(paused, standings) == paused


def test_a_standing_that_has_foretold_the_ends_decides_between_equal_configurations():
    cells = {key: {"name": "same"} for key in range(12)}
    ended = {key: Standing(early=float(key), value=float(key)) for key in range(10)}
    standings = {**ended, 10: Standing(early=0.5), 11: Standing(early=8.5)}
    assert Promotion(cells).ranked([11, 10], standings) == [10, 11]


@pytest.mark.parametrize("bad", [Standing(early=None, broke=True), Standing(early=None, value=1e30)])
def test_a_broken_or_diverged_trial_speaks_against_its_surroundings_and_hides_no_other_difference(bad):
    standings = {
        **dict.fromkeys(CELLS, UNKNOWN),
        (0, 0): Standing(early=None, value=1.0),
        (2, 0): Standing(early=None, value=1.2),
        (4, 0): bad,
    }
    order = Promotion(CELLS).ranked([(4, 1), (2, 1), (0, 1)], standings)
    assert order == [(0, 1), (2, 1), (4, 1)]


def test_values_that_are_not_finite_count_as_unknown():
    odd = {(0, 0): Standing(early=math.nan, value=math.nan), (1, 1): Standing(early=math.inf)}
    standings = {**dict.fromkeys(CELLS, UNKNOWN), **odd}
    assert Promotion(CELLS).ranked(list(CELLS), standings)[0] == (2, 2)


def test_the_choice_does_not_depend_on_the_order_in_which_trials_are_listed():
    standings = {key: Standing(early=float(key[0]), value=float(key[1]) if key[0] else None) for key in CELLS}
    paused = [key for key in CELLS if key[0] == 0]
    assert Promotion(CELLS).ranked(paused, standings) == Promotion(CELLS).ranked(paused[::-1], standings)


@given(st.floats(0.1, 1e6), st.floats(1.05, 4), st.floats(0, 1e9))
def test_the_next_rung_lies_above_and_at_most_one_growth_away(first, growth, samples):
    rung = Rungs(first, growth).next_after(samples)
    assert samples < rung <= max(first, samples * growth * (1 + 1e-9))


@pytest.mark.parametrize(("first", "growth"), [(0, 2.0), (-1, 2.0), (math.nan, 2.0), (1, 1.0), (1, math.nan)])
def test_rungs_that_do_not_rise_are_refused(first, growth):
    with pytest.raises(InputError):
        Rungs(first, growth)


def test_state_is_kept_where_saving_and_restoring_cost_less_than_training_again():
    assert keeps_state(100, save_cost=30, restore_cost=60)
    assert not keeps_state(100, save_cost=50, restore_cost=50)
