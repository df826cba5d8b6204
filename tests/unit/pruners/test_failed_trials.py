"""What the machine did to a trial is no evidence about its config: failed trials change no verdict."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState
from pruner_cases import new_study, pruned_at, report_point, run_trial

from sweeper.pruners.compose import OURS, STOCK, Spec, from_spec

NEEDS: dict[str, Spec] = {
    "patient": {"patient": {"patience": 1, "around": "median"}},
    "percentile": {"percentile": {"percentile": 50.0}},
    "threshold": {"threshold": {"upper": 9.0}},
    "median": {"median": {"n_startup_trials": 1}},
    "hyperband": {"hyperband": {"min_resource": 100, "max_resource": 800, "reduction_factor": 2}},
    "successive_halving": {"successive_halving": {"min_resource": 100, "reduction_factor": 2}},
}
"""Specs of pruners that need parameters, or that would otherwise look at too little to judge anything here."""
MILESTONES = 8


def outcome(spec: Spec, *, failed: float | None) -> int | None:
    """Return where a middling trial ends among eight complete ones and six failed ones, that measured this or nothing.

    There are six either way: Hyperband's brackets hang on a trial's number.
    """
    study = new_study()
    pruner = from_spec([spec], direction="minimize")
    for index in range(8):
        run_trial(study, curve(1.0 + 0.1 * index), attrs=attrs(index), end="complete")
    for index in range(6):
        trial = study.ask()
        for key, value in attrs(index).items():
            trial.set_user_attr(key, value)
        for k in range(6 if failed is not None else 0):
            report_point(trial, curve(failed), k)
            pruner.prune(study, study._storage.get_trial(trial._trial_id))
        study.tell(trial, state=TrialState.FAIL)
    return pruned_at(pruner, study, curve(1.35), attrs=attrs(9))


def curve(level: float) -> dict[str, list[float]]:
    falling = [level + 2.0 / (k + 1) for k in range(MILESTONES)]
    return {"objective": falling, "train_loss": falling, "grad_norm": [level] * MILESTONES}


def attrs(index: int) -> dict[str, object]:
    return {"planned_samples": 100 * MILESTONES, "axes": {"learning_rate": 1e-4 * (index + 1)}}


@pytest.mark.parametrize("name", sorted({*OURS, *STOCK}))
@pytest.mark.parametrize("failed", [0.2, 5.0], ids=["better", "worse"])
def test_a_verdict_is_the_same_with_and_without_failed_trials(name: str, failed: float) -> None:
    spec = NEEDS.get(name, name)
    assert outcome(spec, failed=failed) == outcome(spec, failed=None)
