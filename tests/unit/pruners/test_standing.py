"""What a study says of a trial to whoever promotes: its standing at the first rung, and its value once that settles."""

from __future__ import annotations

import math

import optuna
import pytest

from sweeper.core.promote import Standing
from sweeper.pruners.standing import standing_of
from sweeper.pruners.sweep_state import FINAL_ATTR


def study_of(values: dict[int, float], *, direction: str = "minimize", best_counts: bool = True) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.set_user_attr(FINAL_ATTR, "best" if best_counts else "last")
    trial = study.ask()
    for samples, value in values.items():
        trial.report(value, samples)
    return study


def seen(study: optuna.Study) -> Standing:
    return standing_of(study, study.get_trials()[0], 150, runs=False, broke=False)


MOVING = {100: 5.0, 200: 4.0, 300: 3.0, 400: 2.0}
RESTING = {100: 5.0, 200: 4.0, 300: 2.0, 400: 2.5}


def test_a_trial_that_still_gains_has_an_interpolated_start_and_no_value_yet():
    assert seen(study_of(MOVING)) == Standing(early=4.5)


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_a_trial_that_has_come_to_rest_stands_for_its_best_value(direction, sign):
    study = study_of({samples: sign * value for samples, value in RESTING.items()}, direction=direction)
    assert seen(study) == Standing(early=sign * 4.5, value=sign * 2.0)


def test_where_the_last_value_counts_no_rest_settles_it():
    assert seen(study_of(RESTING, best_counts=False)).value is None


def test_an_ended_trial_stands_for_its_final_value_and_a_pruned_one_for_its_best():
    study = study_of(MOVING)
    study.tell(0, state=optuna.trial.TrialState.PRUNED)
    assert seen(study).value == 2.0
    study = study_of(MOVING)
    study.tell(0, 1.5)
    assert seen(study).value == 1.5


def test_a_start_that_was_not_measured_or_not_finite_is_unknown():
    assert seen(study_of({})) == Standing(early=None)
    assert seen(study_of({100: math.nan, 200: 4.0})).early is None
    assert seen(study_of({200: 4.0})).early is None
