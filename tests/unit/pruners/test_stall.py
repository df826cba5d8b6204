"""The stall pruner, and what ours do with injected faults."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
import pytest

from benchmarks.pruners.faults import ended_at, faults, wrong
from sweeper.core.errors import InputError
from sweeper.pruners import StallPruner
from sweeper.pruners.compose import OURS


def ended(curve: Sequence[float], *, direction: str = "minimize", calibration: bool = False) -> int | None:
    """Return the report of ten at which the trial is ended; another one has reached 0.1. Maximised, all are negated."""
    sign = 1 if direction == "minimize" else -1
    study = optuna.create_study(direction=direction)
    other = study.ask()
    other.report(sign * 0.1, 100)
    trial = study.ask()
    trial.set_user_attr("planned_samples", 1000)
    trial.set_user_attr("calibration", calibration)
    pruner = StallPruner(gain=0.1, over=0.3)
    for place, value in enumerate(curve, 1):
        trial.report(sign * value, 100 * place)
        if pruner.prune(study, trial.storage.get_trial(trial._trial_id)):
            return place
    return None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(
    ("curve", "at"),
    [
        ([3.0] * 10, 4),  # the first report was 0.3 of its samples ago
        ([3.0, 2.0, 2.0, 2.0, 2.0, 2.0], 5),
        ([3.0, 2.6, 2.3, 2.0, 1.7, 1.5, 1.3, 1.1, 0.9, 0.7], None),
        ([3.0, 3.0, 3.0, 2.0, 9.0, math.nan, 9.0], 7),  # a spike is no gain, and no harm either
        ([3.0, math.nan, math.nan, math.nan], 4),  # its best is still its first
    ],
)
def test_a_trial_is_ended_where_its_best_has_not_improved_over_the_window(curve, at, direction):
    assert ended(curve, direction=direction) == at


def test_the_best_known_trial_and_a_calibration_trial_are_left_alone():
    assert ended([0.05] * 10) is None
    assert ended([3.0] * 10, calibration=True) is None


@pytest.mark.parametrize("arguments", [{"gain": -1}, {"over": 0}, {"over": 1}, {"over": "long"}])
def test_a_setting_out_of_range_is_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        StallPruner(**arguments)


@pytest.mark.parametrize("name", ["", *OURS])
def test_ours_do_right_by_every_injected_fault(name):
    row = {fault: ended_at(name or [], curve) for fault, (curve, _) in faults().items()}
    assert wrong(row) == []
