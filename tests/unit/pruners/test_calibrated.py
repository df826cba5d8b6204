from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from pruner_cases import INF, NAN, new_study, pruned_at, run_trial

from sweeper.core.errors import InputError
from sweeper.pruners import CalibratedPruner
from sweeper.pruners.sweep_state import SPENT_ATTR

CELLS = np.linspace(0.0, 1.0, 13)


def curve(cell: float, sign: float = 1.0, length: int = 10) -> list[float]:
    """A bowl over one axis, best at 0.5, reached along 1/k: early values tell the order of the final ones."""
    return [sign * (1.0 + 4 * (cell - 0.5) ** 2 + 0.5 / k) for k in range(1, length + 1)]


def attrs(cell: float, **more):
    return {"axes": {"x": float(cell)}, "planned_samples": 1000, **more}


def finished(direction: str = "minimize", cells=CELLS[::2]) -> optuna.Study:
    study = new_study(direction)
    for cell in cells:
        signals = {"objective": curve(cell, 1.0 if direction == "minimize" else -1.0)}
        run_trial(study, signals, attrs=attrs(cell), end="complete")
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_hopeless_trial_ends_early_and_a_promising_one_never(direction):
    sign = 1.0 if direction == "minimize" else -1.0
    hopeless = {"objective": curve(CELLS[1], sign)}
    promising = {"objective": curve(0.5, sign * 0.9)}
    pruner = CalibratedPruner(risk=0.1)
    assert pruned_at(pruner, finished(direction), hopeless, attrs=attrs(CELLS[1])) <= 3
    assert pruned_at(pruner, finished(direction), promising, attrs=attrs(0.5)) is None


def test_where_early_values_do_not_foretell_nothing_is_ended():
    rng = np.random.default_rng(0)
    study = new_study()
    for _ in CELLS:
        early, late = rng.uniform(1, 2), rng.uniform(1, 2)
        values = [early] * 8 + [late] * 2
        run_trial(study, {"objective": values}, attrs=attrs(rng.uniform()), end="complete")
    assert pruned_at(CalibratedPruner(), study, {"objective": [1.9] * 8}, attrs=attrs(0.4)) is None


FRONT = np.linspace(0.42, 0.58, 7)


@pytest.mark.parametrize(
    ("also_ended", "calibration", "ends"), [((), False, False), ((0.0, 0.02), False, True), ((), True, True)]
)
def test_where_only_front_runners_have_ended_no_other_trial_is(also_ended, calibration, ends):
    study = new_study()
    for cell in [*FRONT, *also_ended]:
        how = attrs(cell, calibration=calibration)
        run_trial(study, {"objective": curve(cell)}, attrs=how, end="complete")
    for cell in np.linspace(0.75, 1.0, 9):
        run_trial(study, {"objective": curve(cell, length=9)}, attrs=attrs(cell))
    at = pruned_at(CalibratedPruner(risk=0.1), study, {"objective": curve(CELLS[0])[:9]}, attrs=attrs(CELLS[0]))
    assert (at is not None) == ends


def test_the_best_trial_so_far_is_never_ended():
    assert pruned_at(CalibratedPruner(risk=0.9), finished(), {"objective": [0.5] * 10}, attrs=attrs(0.0)) is None


def test_a_calibration_trial_is_never_ended():
    how = attrs(CELLS[1], calibration=True)
    assert pruned_at(CalibratedPruner(risk=0.9), finished(), {"objective": curve(CELLS[1])}, attrs=how) is None


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_non_finite_objective_is_left_to_the_guards(value):
    assert pruned_at(CalibratedPruner(risk=0.9), finished(), {"objective": [value] * 3}, attrs=attrs(0.0)) is None


def test_a_broken_peer_changes_no_answer():
    study = finished()
    run_trial(study, {"objective": [1.0, NAN, INF]}, attrs=attrs(0.9), end="pruned")
    hopeless = {"objective": curve(CELLS[1])}
    assert pruned_at(CalibratedPruner(risk=0.1), study, hopeless, attrs=attrs(CELLS[1])) <= 3


def test_an_empty_sweep_ends_nothing():
    assert pruned_at(CalibratedPruner(risk=0.9), new_study(), {"objective": curve(0.0)}, attrs=attrs(0.0)) is None


def hopeless_verdicts(study, risk: float, count: int = 4):
    pruner = CalibratedPruner(risk=risk)
    for index in range(count):
        cell = CELLS[1] + 0.01 * index
        for k in range(1, 11):
            if k == 1:
                trial = study.ask()
                for name, value in attrs(cell).items():
                    trial.set_user_attr(name, value)
            trial.report(curve(cell)[k - 1], 100 * k)
            verdict = pruner.verdict(study, trial.storage.get_trial(trial._trial_id))
            if verdict.prunes:
                study.tell(trial, state=TrialState.PRUNED)
                yield verdict
                break


def test_all_prunes_together_never_spend_more_than_the_risk():
    study = finished()
    verdicts = list(hopeless_verdicts(study, risk=0.05))
    assert verdicts
    spent = [trial.user_attrs[SPENT_ATTR] for trial in study.trials if SPENT_ATTR in trial.user_attrs]
    assert len(spent) == len(verdicts)
    assert sum(spent) <= 0.05


def test_early_values_of_peers_do_not_widen_what_counts_as_a_tie():
    """Peers that have only begun lie far off; a share of that distance would be a target that nobody can reach."""
    study = finished()
    near_tie = {"objective": [value - 0.02 for value in curve(0.5)]}
    ends = pruned_at(CalibratedPruner(risk=0.05), study, near_tie, attrs=attrs(0.45))
    for _ in range(20):
        run_trial(study, {"objective": [500.0]}, attrs=attrs(0.3), end=None)
    assert ends is None
    assert pruned_at(CalibratedPruner(risk=0.05), study, near_tie, attrs=attrs(0.45)) is None


def test_a_spent_budget_ends_nothing_more():
    study = finished()
    gone = run_trial(study, {"objective": [9.0]}, attrs=attrs(0.9, **{SPENT_ATTR: 0.05}), end="pruned")
    assert gone.user_attrs[SPENT_ATTR] == 0.05
    assert list(hopeless_verdicts(study, risk=0.05)) == []


def test_a_smaller_risk_ends_a_trial_later_or_not_at_all():
    hopeless = {"objective": curve(CELLS[1])}
    ends = [
        pruned_at(CalibratedPruner(risk=risk), finished(), hopeless, attrs=attrs(CELLS[1])) or 99
        for risk in (0.5, 0.05, 0.005, 1e-9)
    ]
    assert ends == sorted(ends)
    assert ends[0] < ends[-1]


def test_the_verdict_names_the_best_the_chance_and_the_limit_and_repeats_itself():
    study = finished()
    trial = run_trial(study, {"objective": curve(CELLS[1], length=3)}, attrs=attrs(CELLS[1]))
    pruner = CalibratedPruner(risk=0.2)
    frozen = trial.storage.get_trial(trial._trial_id)
    verdict = pruner.verdict(study, frozen)
    assert verdict.prunes
    assert verdict.peers["best"] == pytest.approx(1.05)
    assert verdict.peers["spends"] <= verdict.threshold
    again = CalibratedPruner(risk=0.2).verdict(study, trial.storage.get_trial(trial._trial_id))
    assert again == verdict


def test_a_plain_optuna_study_needs_no_attributes():
    study = new_study()
    for cell in CELLS[::2]:
        trial = study.ask({"x": optuna.distributions.FloatDistribution(cell, cell)})
        for k, value in enumerate(curve(cell), 1):
            trial.report(value, 100 * k)
        study.tell(trial, curve(cell)[-1])
    trial = study.ask({"x": optuna.distributions.FloatDistribution(CELLS[1], CELLS[1])})
    for k, value in enumerate(curve(CELLS[1], length=4), 1):
        trial.report(value, 100 * k)
    assert CalibratedPruner(risk=0.2).prune(study, trial.storage.get_trial(trial._trial_id))


@pytest.mark.parametrize("wrong", [{"risk": 0}, {"risk": 1}, {"risk": "low"}, {"tolerance": -0.1}, {"tolerance": NAN}])
def test_a_wrong_setting_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        CalibratedPruner(**wrong)


@settings(max_examples=15, deadline=None)
@given(values=st.lists(st.floats(0.5, 5.0), min_size=2, max_size=8), keep=st.integers(1, 6))
def test_a_verdict_ignores_the_future(values, keep):
    alone = pruned_at(CalibratedPruner(risk=0.2), finished(), {"objective": values[:keep]}, attrs=attrs(0.1))
    longer = pruned_at(CalibratedPruner(risk=0.2), finished(), {"objective": values}, attrs=attrs(0.1))
    assert longer == alone or (alone is None and longer > min(keep, len(values)))
