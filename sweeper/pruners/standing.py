"""What a study says of a started trial to whoever chooses which paused one goes on."""

from __future__ import annotations

import math

import optuna
from optuna.trial import FrozenTrial

from sweeper.core.promote import Standing
from sweeper.pruners.base import minimizes
from sweeper.pruners.history import OBJECTIVE, remembered
from sweeper.pruners.path import make_path, stands
from sweeper.pruners.sweep_state import FINAL_ATTR


def standing_of(study: optuna.Study, trial: FrozenTrial, first_rung: float, *, runs: bool, broke: bool) -> Standing:
    """Return what is known of a started trial; a value that is not finite counts as unknown.

    Args:
        study: the trial's.
        trial: running, paused or ended.
        first_rung: where trials are compared at equal samples.
        runs: whether a gang works on it now.
        broke: whether a guard ended it.
    """
    curve = remembered(study, trial).curve(OBJECTIVE)
    value = trial.value if trial.state is optuna.trial.TrialState.COMPLETE else None
    if value is None and curve:
        sign = 1.0 if minimizes(study) else -1.0
        best_counts = study._storage.get_study_user_attrs(study._study_id).get(FINAL_ATTR) == "best"
        path = make_path(curve.samples, [sign * v for v in curve.values], final=None, cell=0, best_counts=best_counts)
        if path is not None and (trial.state.is_finished() or stands(path)):
            value = sign * path.value
    early = curve.value_at(first_rung)
    return Standing(
        early=early if early is not None and math.isfinite(early) else None,
        value=value,
        broke=broke,
        runs=runs,
    )
