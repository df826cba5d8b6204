from __future__ import annotations

import numpy as np
import pytest

from sweeper.pruners.forecast import beats_by_pace, beats_by_stall
from sweeper.pruners.path import Path, make_path
from sweeper.pruners.process import beats_by_process

SAMPLES = list(range(1, 21))


def path(values, *, final=None, cell=0, best_counts=True, samples=None) -> Path:
    found = make_path(samples or SAMPLES[: len(values)], values, final=final, cell=cell, best_counts=best_counts)
    assert found is not None
    return found


def falling(level: float, length: int = 20) -> list[float]:
    return [level + 1.0 / s for s in SAMPLES[:length]]


def test_a_path_is_ranked_by_its_best_or_by_its_latest_value():
    values = [3.0, 1.0, 2.0]
    assert path(values).value == 1.0
    assert path([*values, 2.5], best_counts=False).value == 2.0


def test_a_step_back_counts_from_the_next_report_on():
    assert list(path([3.0, 1.0, 9.0, 9.0, 0.9], best_counts=False).values) == [3.0, 1.0, 1.0, 9.0, 0.9]


def test_a_path_leaves_non_finite_points_out():
    found = path([float("nan"), 2.0, float("inf"), 1.0])
    assert list(found.samples) == [2, 4]
    assert make_path([1], [float("nan")], final=None, cell=0, best_counts=True) is None


def test_a_stall_is_the_share_of_samples_since_the_latest_gain():
    assert path([3.0, 1.0, 2.0, 2.0]).stall == pytest.approx(0.5)
    assert path([3.0, 2.0, 1.0]).stall == 0
    assert path([3.0, 1.0, 2.0, 2.0], best_counts=False).stall == 0


def test_a_long_stall_far_from_the_target_has_little_chance_and_a_short_one_near_it_more():
    stalled = [2.0, 1.5, *[1.6] * 10]
    peers = [path([2.0, level, *[level + 0.1] * 18], final=level) for level in (1.0, 1.1, 1.2, 1.3, 1.4)]
    far = beats_by_stall(path(stalled), peers, target=0.5, unit=0.2)
    near = beats_by_stall(path(stalled), peers, target=1.45, unit=0.2)
    assert far < near < 0.5
    assert far < 0.02


def test_without_a_stall_or_without_stalled_peers_a_stall_says_nothing():
    peers = [path(falling(level), final=level + 0.05) for level in (1.0, 2.0, 3.0)]
    assert beats_by_stall(path(falling(4.0, 8)), peers, target=1.0, unit=0.5) is None
    assert beats_by_stall(path([2.0, 1.0, 1.5]), peers, target=0.5, unit=0.5) is None


def test_peers_that_gained_after_such_a_stall_raise_the_chance():
    stalled = path([2.0, 1.5, *[1.6] * 10])
    quiet = [path([2.0, 1.0, *[1.1] * 18], final=1.0) for _ in range(6)]
    late = [path([2.0, 1.0, *[1.1] * 17, 0.5], final=0.5) for _ in range(6)]
    before = beats_by_stall(stalled, quiet, target=1.0, unit=0.5)
    assert beats_by_stall(stalled, late, target=1.0, unit=0.5) > 5 * before


def test_stalls_of_trials_that_have_landed_say_nothing_of_an_early_one():
    landed = [path([9.0 - 0.5 * s for s in range(15)] + [2.0] * 5, final=2.0) for _ in range(6)]
    early = [9.0, 8.0, 8.0]
    assert beats_by_stall(path(early), landed, target=2.0, unit=0.5) is None
    soon = [path([9.0, 8.0, 8.0, 8.0, 8.0, 2.0], final=2.0) for _ in range(6)]
    assert beats_by_stall(path(early), soon, target=2.0, unit=0.5) > 0.1


def test_where_late_gains_do_not_follow_the_pace_a_slow_start_condemns_nobody():
    """A learning rate that decays gives all of them the same late, whatever they had gained by the middle."""
    rng = np.random.default_rng(0)
    peers = []
    for early in rng.uniform(0.2, 4.0, 12):
        values = [10.0 - early * max(0, s - 5) / 5 for s in SAMPLES[:10]]
        peers.append(path([*values, *[values[-1] - 5.0] * 10], final=values[-1] - 5.0))
    slow = path([8.0 - 0.01 * s for s in SAMPLES[:10]])
    in_step = path([8.0 - 0.2 * s for s in SAMPLES[:10]])
    assert beats_by_pace(slow, peers, target=2.95, unit=1.0, planned=None) > 0.1
    assert beats_by_pace(in_step, peers, target=2.95, unit=1.0, planned=None) > 0.1


def test_the_pace_of_gains_tells_a_trial_stuck_far_off_from_one_still_falling():
    peers = [path(falling(level), final=level + 0.05) for level in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
    stuck = path([9.0 - 1e-6 * s for s in SAMPLES[:10]])
    assert beats_by_pace(stuck, peers, target=1.0, unit=0.2, planned=None) < 0.01
    assert beats_by_pace(path(falling(1.0, 10)), peers, target=1.08, unit=0.2, planned=None) > 0.05


def test_before_three_trials_have_ended_neither_stall_nor_pace_says_anything():
    """What no trial has shown cannot be told: all of them may step down late."""
    resting = [2.0, 1.5, *[1.6] * 18]
    for ended in (2, 3):
        peers = [path(resting, final=1.5) for _ in range(ended)] + [path(resting) for _ in range(10)]
        stall = beats_by_stall(path(resting[:10]), peers, target=1.0, unit=0.5)
        pace = beats_by_pace(path(resting[:10]), peers, target=1.0, unit=0.5, planned=20.0)
        assert (stall is None, pace is None) == (ended < 3, ended < 3)


def test_small_wavering_does_not_make_a_large_fall_impossible():
    wavering = [[2.0, 1.5, *[1.6] * 9, *[1.49] * 9] for _ in range(12)]
    peers = [path(values, final=1.49) for values in wavering]
    assert beats_by_stall(path(wavering[0][:11]), peers, target=0.5, unit=0.2) > 1e-6


def test_shortly_before_the_planned_end_a_slow_trial_far_off_has_no_chance():
    peers = [path(falling(level), final=level + 0.05) for level in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
    slow = [2.0 - 0.01 * s for s in SAMPLES[:19]]
    sure = beats_by_pace(path(slow), peers, target=1.0, unit=0.5, planned=20.0)
    assert sure < 0.002
    assert beats_by_pace(path(slow), peers, target=1.0, unit=0.5, planned=None) > 3 * sure


def test_one_diverging_peer_does_not_make_large_gains_likely():
    peers = [path(falling(level), final=level + 0.05, best_counts=False) for level in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
    wild = path([5.0, 90.0, 7.0, 80.0] * 5, final=80.0, best_counts=False)
    stuck = path([9.0 - 1e-6 * s for s in SAMPLES[:10]], best_counts=False)
    calm = beats_by_pace(stuck, peers, target=1.0, unit=0.2, planned=20.0)
    assert beats_by_pace(stuck, [*peers, wild], target=1.0, unit=0.2, planned=20.0) < max(0.05, 20 * calm)


def test_a_final_value_better_than_the_whole_curve_is_no_late_gain():
    """A diverged run that is ranked by the value of the untrained model gained nothing at its end."""
    peers = [path(falling(level), final=level + 0.05) for level in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
    diverged = [path([50.0] * 20, final=3.0) for _ in range(3)]
    slow = path([2.0 - 0.01 * s for s in SAMPLES[:19]])
    assert diverged[0].end == 50.0
    assert beats_by_pace(slow, [*peers, *diverged], target=1.0, unit=0.5, planned=20.0) < 1e-3


POINTS = np.linspace(0, 1, 12)[:, None]


def bowl(count: int) -> list[Path]:
    """Finished trials on one axis whose final value is a bowl with its lowest point at 0.5."""
    rows = [0, 11, 6, 3, 9, 1, 10, 4, 8, 2][:count]
    finals = [1.0 + 4 * (POINTS[row, 0] - 0.5) ** 2 for row in rows]
    return [path(falling(final - 0.05), final=final, cell=row) for row, final in zip(rows, finals, strict=True)]


def test_the_process_learns_which_configurations_end_well():
    far = path(falling(1.9, 3), cell=0)
    near = path(falling(1.0, 3), cell=5)
    peers = [p for p in bowl(10) if p.cell != 0]
    bad = beats_by_process(far, peers, POINTS, best=1.0, unit=0.4)
    good = beats_by_process(near, peers, POINTS, best=1.0, unit=0.4)
    assert bad is not None
    assert good is not None
    assert bad.below(0.98) < 0.02 < good.below(1.05)
    low, middle, high = bad.quantiles()
    assert low < middle < high
    assert middle > 1.3


def test_few_finished_trials_leave_everything_possible():
    trial = path(falling(3.0, 3), cell=7)
    assert beats_by_process(trial, bowl(5), POINTS, best=1.0, unit=0.4) is None
    assert beats_by_process(trial, bowl(6), POINTS, best=1.0, unit=0.4).below(1.0) > 0.0001


def test_the_mixtures_weights_are_a_distribution_and_its_chance_rises_with_the_target():
    forecast = beats_by_process(path(falling(1.5, 3), cell=7), bowl(8), POINTS, best=1.0, unit=0.4)
    assert float(forecast.weights.sum()) == pytest.approx(1.0)
    chances = [forecast.below(target) for target in (0.9, 1.0, 1.2, 1.5, 3.0)]
    assert chances == sorted(chances)


def test_near_the_end_the_process_knows_what_is_left_better_than_the_configurations_do():
    bumpy = [1.0 + 0.3 * (row % 3) for row in range(10)]
    peers = [path(falling(final - 0.05), final=final, cell=row) for row, final in enumerate(bumpy)]
    early, late = (
        beats_by_process(path(falling(1.4, length), cell=11), peers, POINTS, best=1.0, unit=0.3) for length in (3, 18)
    )
    assert late.below(0.98) < 0.01 * early.below(0.98)


def test_a_trial_that_still_falls_keeps_a_chance_where_all_others_have_landed():
    landed = [
        path([level + 0.5, *[level] * 19], final=level, cell=row) for row, level in enumerate(np.linspace(1, 2, 9))
    ]
    values = [4.0 - 0.2 * s for s in SAMPLES[:12]]
    falls, rests = path(values, cell=10), path([4.0, *[values[-1]] * 11], cell=10)
    chances = [beats_by_process(each, landed, POINTS, best=1.0, unit=0.5).below(0.98) for each in (falls, rests)]
    assert chances[0] > 0.004
    assert chances[0] > 10 * chances[1]


def test_where_all_trials_end_alike_the_forecast_is_still_a_number():
    alike = [path([0.0] * 20, final=0.0, cell=cell) for cell in range(8)]
    forecast = beats_by_process(path([0.5] * 5, cell=9), alike, POINTS, best=0.0, unit=1e-12)
    assert 0 < forecast.below(-0.01) < 1
    assert all(np.isfinite(forecast.quantiles()))
