from __future__ import annotations

import pytest

from sweeper.pruners.own_record import has_seen_the_like, precedent, trusted
from sweeper.pruners.path import Path, make_path


def path(values, *, final=None, cell=0) -> Path:
    samples = list(range(1, len(values) + 1))
    found = make_path(samples, values, final=final, cell=cell, best_counts=True)
    assert found is not None
    return found


RESTING = [3.0] * 6
STANDS_STILL = [path([3.0 - 0.1 * end] * 8, final=3.0 - 0.1 * end, cell=end) for end in range(4)]
CAME_BACK = path([3.0] * 6 + [1.0, 1.0], final=1.0, cell=9)


def always(chance):
    return lambda own, peers, target: chance


def test_a_forecaster_without_a_miss_is_believed():
    assert trusted(1e-6, always(1e-6), path(RESTING), STANDS_STILL) == 1e-6


def test_a_forecaster_that_would_have_ended_the_best_is_believed_less():
    peers = [*STANDS_STILL, CAME_BACK]
    chance = trusted(1e-6, always(1e-6), path(RESTING), peers)
    # As surprising as its worst miss, so as likely as one in the six that are known with this one.
    assert chance == pytest.approx(1 / 6)
    assert 1e-6 < trusted(1e-9, lambda own, peers, target: 1e-6, path(RESTING), peers) < chance


def test_a_miss_within_what_chance_brings_changes_nothing():
    assert trusted(0.001, always(0.3), path(RESTING), [*STANDS_STILL, CAME_BACK]) == 0.001


def test_a_record_is_asked_at_the_age_of_the_judged_trial_and_without_the_tested_one():
    asked = []

    def listens(own, peers, target):
        asked.append((own.now, own.final, target, len(peers), any(p is CAME_BACK for p in peers)))
        return 0.5

    trusted(0.001, listens, path(RESTING[:4]), [*STANDS_STILL, CAME_BACK])
    assert asked == [(4.0, None, 1.0, 5, False)]


def test_a_peer_that_came_back_from_the_same_rest_leaves_a_chance():
    none = precedent(path(RESTING), STANDS_STILL, target=0.9, unit=1.0)
    some = precedent(path(RESTING), [*STANDS_STILL, CAME_BACK], target=0.9, unit=1.0)
    assert none == 0.0
    assert some == pytest.approx(1 / 6 / 6)


def test_what_a_peer_gains_far_above_is_no_precedent_for_a_gain_from_here_on():
    wavering = path([50.0] * 6 + [40.0, 34.0], final=34.0)
    assert precedent(path(RESTING), [*STANDS_STILL, wavering], target=0.9, unit=1.0) == 0.0


def test_a_peer_that_was_on_the_move_is_no_precedent_for_one_at_rest():
    moving = path([6.0, 5.0, 4.0, 3.5, 3.2, 3.0, 1.0, 1.0], final=1.0)
    assert precedent(path(RESTING), [*STANDS_STILL, moving], target=0.9, unit=1.0) == 0.0


def test_a_trial_at_its_first_report_has_no_precedent():
    assert precedent(path([3.0]), [CAME_BACK], target=0.9, unit=1.0) == 0.0


def test_the_like_of_a_trial_are_ended_ones_that_stood_no_better_or_in_the_worse_half():
    low, middle, high = (path([value] * 8, final=value) for value in (1.0, 2.0, 3.0))
    runs = path([3.5] * 6)
    assert not has_seen_the_like(path([4.0] * 4), [low, low, low, high, runs, runs, runs])
    assert has_seen_the_like(path([4.0] * 4), [low, low, low, high, high, runs])
    assert has_seen_the_like(path([1.5] * 4), [low, low, middle, high])
    assert not has_seen_the_like(path([4.0] * 4), [low, low, *[path([4.0] * 2, final=4.0)] * 4, runs, runs, runs])
    assert not has_seen_the_like(path([4.0] * 4), [])
