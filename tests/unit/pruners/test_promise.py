"""The promise of ``calibrated`` on sweeps drawn at random, in worlds where early values mislead.

A few sweeps a world here; ``python -m benchmarks.pruners.worlds`` plays more of them.
"""

from __future__ import annotations

import pytest

from benchmarks.pruners.worlds import WORLDS, draw, error, measure

RISK = 0.1
SWEEPS = 6


@pytest.mark.parametrize("world", [name for name in WORLDS if name != "easy"])
def test_no_more_sweeps_lose_their_best_than_the_dial_says(world):
    _, lost = measure(world, RISK, SWEEPS)
    assert lost <= RISK + error(RISK, SWEEPS)


def test_where_early_values_foretell_it_saves_and_loses_nothing():
    share, lost = measure("easy", RISK, SWEEPS)
    assert share > 0.15
    assert lost == 0


def test_a_world_is_the_same_each_time_and_another_by_another_seed():
    assert draw("ties", 3) == draw("ties", 3)
    assert draw("ties", 3) != draw("ties", 5)
