from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.core.order import embed
from sweeper.pruners import finals as module
from sweeper.pruners.finals import MAX_KNOWN, chance_of_no_rival, learn_finals, median_final

RATES = 10.0 ** np.linspace(-6, -2, 17)
POINTS = embed([{"rate": float(rate)} for rate in RATES])


def bowl(row: int) -> float:
    return 1.0 + (row - 8) ** 2 / 16


def test_fewer_than_three_finished_trials_teach_nothing():
    assert learn_finals(POINTS, [0, 16], [5.0, 5.0]) is None


def test_cells_between_finished_ones_are_expected_between_them():
    known = [0, 4, 8, 12, 16]
    finals = learn_finals(POINTS, known, [bowl(row) for row in known])
    assert finals is not None
    middles = finals.middles()
    assert middles[8] < middles[6] < middles[2]
    beats = finals.below(1.5, list(range(17)))
    assert beats[8] > beats[4] > beats[0]
    assert np.all((beats >= 0) & (beats <= 1))


def test_a_diverged_loss_does_not_spoil_the_rest():
    known = [0, 4, 8, 12, 16]
    finals = learn_finals(POINTS, known, [1e12, *[bowl(row) for row in known[1:]]])
    assert finals is not None
    assert np.all(np.isfinite(finals.middles()))
    assert finals.below(1.5, [8])[0] > finals.below(1.5, [1])[0]


def test_many_finished_trials_are_thinned_and_the_best_kept(monkeypatch):
    looked_at = []
    real = module._process
    monkeypatch.setattr(module, "_process", lambda *given: looked_at.append(len(given[1])) or real(*given))
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(500, 2))
    values = np.sum((points - 0.5) ** 2, axis=1)
    finals = learn_finals(points, list(range(400)), list(values[:400]))
    assert finals is not None
    assert finals.low == values[:400].min()
    assert set(looked_at) == {MAX_KNOWN}


def test_finals_that_lie_close_together_leave_a_chance_to_the_odd_one():
    """Runs that stop at a common target end alike, and one in twenty goes far past it: no ten of them foretell that."""
    rng = np.random.default_rng(1)
    points = rng.uniform(size=(20, 2))
    finals = learn_finals(points, list(range(10)), list(1 + rng.normal(0, 0.01, 10)))
    assert finals is not None
    assert np.all(finals.below(0.9, list(range(10, 20))) > 1e-4)


def test_among_trials_that_are_all_alike_the_best_of_them_may_be_any():
    """Four finished, one that has beaten them, twenty still to come with the chance of any: (4 + 1) / (4 + 1 + 20)."""
    assert chance_of_no_rival(np.full(20, 1 / 5), 4) == pytest.approx(5 / 25)


def test_others_without_a_chance_or_no_others_are_no_rivals():
    assert chance_of_no_rival(np.zeros(20), 4) == 1.0
    assert chance_of_no_rival(np.zeros(0), 4) == 1.0


def test_a_certain_rival_counts_as_one_trial_and_not_as_certainty():
    assert chance_of_no_rival(np.ones(1), 4) == pytest.approx(5 / 6)


def test_the_median_counts_broken_trials_as_worst():
    assert median_final([1.0, 2.0, math.inf]) == 2.0
    assert median_final([1.0, 2.0, 3.0, 4.0]) == 2.0
    assert math.isnan(median_final([]))
