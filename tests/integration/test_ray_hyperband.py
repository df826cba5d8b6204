"""Ray's HyperBand as a baseline: its brackets, its halving and its promotions on the simulated clock."""

from __future__ import annotations

import random

import pytest

from benchmarks.pruners.ray_hyperband import ray_hyperband
from sweeper.replay.curves import Grid, Point, RecordedTrial


def grid(levels: list[float]) -> Grid:
    """Return trials of 81 points that stay at their level."""
    trials = [
        RecordedTrial(
            name=str(index),
            config={"x": index},
            final=level,
            points=tuple(Point(resource=k, signals={"objective": level}) for k in range(1, 82)),
        )
        for index, level in enumerate(levels)
    ]
    return Grid(name="levels", direction="minimize", best_counts=False, trials=tuple(trials))


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_each_bracket_ends_its_worse_trials_when_all_have_come_as_far(workers):
    arrival = list(range(13))
    random.Random(3).shuffle(arrival)
    levels = [0.0] * 13
    for place, index in enumerate(arrival):
        levels[index] = float(place)  # the later a trial arrives, the worse it is
    stops = ray_hyperband(grid(levels), workers, seed=3)
    # The first bracket takes 5 trials and ends none; the second takes 8, of which 3 go on past 81 / 3.
    assert [stops[index] for index in arrival] == [None] * 8 + [27] * 5
