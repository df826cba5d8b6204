"""Pause and promotion on the simulated clock: what is run when, what it costs, and what paused trials are asked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from sweeper.core.errors import InputError
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.pruners.base import VerdictPruner
from sweeper.pruners.record import axes
from sweeper.replay.curves import Grid, Point, RecordedTrial
from sweeper.replay.promoted import PauseCosts
from sweeper.replay.simulate import simulate

MARKS = (100, 200, 300, 400)
"""Reports of every trial; with rungs at 100, 150, 225 and 337.5 each but the last one is a pause."""


class Script(VerdictPruner):
    """Writes down each trial and its samples as it is asked; condemns paused trials once so many have ended."""

    rule = "script"

    def __init__(self, condemns_after: int = 99) -> None:
        self.condemns_after = condemns_after
        self.asked: list[tuple[int, int]] = []
        self.asked_again: list[tuple[int, int]] = []

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        self.asked.append((axes(trial)["x"], trial.last_step or 0))
        return proceed(self.rule, "go on", trial.last_step or 0)

    def reconsider(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        self.asked_again.append((axes(trial)["x"], trial.last_step or 0))
        ended = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        speak = prune if ended >= self.condemns_after else proceed
        return speak(self.rule, "enough have ended", trial.last_step or 0)


def grid_of(arrival: Sequence[int], finals: Mapping[int, float] | None = None) -> Grid:
    """Return trials on one axis x, which arrive at seed 0 in this order of x."""
    place = list(range(len(arrival)))
    random.Random(0).shuffle(place)
    by_place = dict(zip(place, arrival, strict=True))
    trials = tuple(
        RecordedTrial(
            name=f"x{by_place[index]}",
            config={"x": by_place[index]},
            final=(finals or {}).get(by_place[index], 1.0),
            points=tuple(Point(resource=mark, signals={"objective": 1.0}) for mark in MARKS),
        )
        for index in range(len(arrival))
    )
    return Grid(name="clock", direction="minimize", best_counts=False, trials=trials)


def test_on_one_worker_every_cell_reaches_the_first_rung_before_any_goes_past_it():
    script = Script()
    simulate(grid_of([2, 0, 1, 4, 3]), script, start="centre", promote=PauseCosts())
    assert script.asked[:5] == [(2, 100), (0, 100), (1, 100), (4, 100), (3, 100)]
    assert script.asked[5:7] == [(2, 200), (2, 300)]  # then the most promising one to its end


def test_a_trial_that_stays_the_most_promising_goes_on_without_a_save():
    ending = simulate(grid_of([0, 2, 1]), Script(), start="centre", promote=PauseCosts(save=0.1, restore=0.2))
    assert ending.spent == pytest.approx(1200 + 2 * 10 + 2 * 20)  # 0 and 2 are saved, 1 is at hand


def test_each_change_of_trial_costs_a_save_and_a_restore():
    ending = simulate(grid_of([1, 0, 2]), Script(), start="centre", promote=PauseCosts(save=0.1, restore=0.2))
    assert ending.spent == pytest.approx(1200 + 3 * 10 + 3 * 20)


def test_where_a_save_costs_more_than_the_training_so_far_the_trial_is_run_again():
    ending = simulate(grid_of([0, 2, 1]), Script(), start="centre", promote=PauseCosts(save=3.0, restore=3.0))
    assert ending.spent == pytest.approx(1200 + 2 * 100)


def test_a_paused_trial_that_is_condemned_now_ends_with_the_samples_it_has():
    grid = grid_of([0, 2, 1])
    ending = simulate(grid, Script(condemns_after=1), start="centre", promote=PauseCosts())
    stops = {trial.config["x"]: stop for trial, stop in zip(grid.trials, ending.stopped_at, strict=True)}
    assert stops == {0: 100, 1: None, 2: 100}
    assert ending.spent == 600
    assert {v.rule for v in ending.verdicts if v is not None} == {"script"}


def test_a_paused_trial_is_asked_about_again_only_when_another_has_ended_since():
    script = Script()
    simulate(grid_of([0, 2, 1]), script, start="centre", promote=PauseCosts())
    assert sorted(script.asked_again) == [(0, 100), (2, 100)]


def test_no_worker_rests_while_a_trial_is_paused():
    grid = grid_of(range(7))
    ending = simulate(grid, Script(), workers=3, promote=PauseCosts())
    assert ending.spent == 7 * 400
    assert ending.stopped_at == (None,) * 7


def test_a_trial_is_completed_at_what_the_sweep_had_spent_by_then():
    grid = grid_of([0, 2, 1])
    ending = simulate(grid, Script(), start="centre", promote=PauseCosts())
    at = {trial.config["x"]: spent for trial, spent in zip(grid.trials, ending.completed_at, strict=True)}
    assert at[1] == 600
    assert sorted(spent for spent in at.values() if spent is not None) == [600, 900, 1200]


def test_without_promotion_a_sweep_costs_what_its_trials_have_seen():
    grid = grid_of(range(5))
    ending = simulate(grid, Script(), workers=2, calibration=0)
    assert ending.spent == 5 * 400
    assert sorted(spent for spent in ending.completed_at if spent is not None) == [800, 800, 1600, 1600, 2000]


def test_two_replays_are_the_same():
    first, second = (simulate(grid_of(range(9)), Script(3), workers=2, promote=PauseCosts(save=0.1)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("costs", [{"save": -0.1}, {"restore": float("nan")}, {"save": float("inf")}])
def test_costs_that_are_no_costs_are_refused(costs):
    with pytest.raises(InputError):
        PauseCosts(**costs)
