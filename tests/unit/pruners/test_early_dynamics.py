from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pruner_cases import new_study, pruned_at, run_trial

from sweeper.core.errors import InputError
from sweeper.pruners import EarlyDynamicsPruner

PLANNED = {"planned_samples": 1000}
FALL = [1.0, 0.9, 0.85, 0.8, 0.78]


def curves(loss: float, norm: float, objective: float | None = None) -> dict[str, list[float]]:
    found = {"train_loss": [loss * f for f in FALL], "grad_norm": [norm] * len(FALL)}
    return found if objective is None else {**found, "objective": [objective] * len(FALL)}


def sweep(*trials: dict[str, list[float]], direction: str = "minimize", end: str = "complete"):
    study = new_study(direction)
    for signals in trials:
        run_trial(study, signals, end=end, attrs=PLANNED, start_loss=5.0)
    return study


def ended(study, signals, pruner=None, **how):
    how = {"attrs": PLANNED, "start_loss": 5.0, **how}
    return pruned_at(pruner or EarlyDynamicsPruner(learn_directions=False), study, signals, **how)


GOOD = [curves(3.0, 0.5), curves(3.1, 0.4), curves(3.2, 0.6)]


def test_a_high_norm_and_a_low_loss_end_a_trial():
    assert ended(sweep(*GOOD), curves(2.0, 4.0)) == 1


def test_a_low_norm_and_a_high_loss_are_kept():
    assert ended(sweep(*GOOD), curves(3.5, 0.1)) is None


@pytest.mark.parametrize("signals", [curves(3.3, 4.0), curves(2.0, 0.1)])
def test_one_bad_signal_alone_never_ends_a_trial(signals):
    assert ended(sweep(*GOOD), signals) is None


def test_a_single_recorded_signal_never_ends_a_trial():
    study = new_study()
    for value in (1.0, 1.1, 1.2):
        for k, trial in enumerate([study.ask()]):
            trial.report(value, 100 + k)
            study.tell(trial, value)
    trial = study.ask()
    trial.report(9.0, 100)
    assert not EarlyDynamicsPruner().prune(study, trial.storage.get_trial(trial._trial_id))


def test_a_trial_is_not_judged_before_its_own_warmup_is_over():
    assert ended(sweep(*GOOD), curves(2.0, 4.0), warmup_milestones=2) == 3


def test_peers_are_compared_at_equal_samples_whatever_their_batch_size():
    """Peers report every 130 samples, the trial every 100: nobody shares a step with it."""
    study = new_study()
    for signals in GOOD:
        run_trial(study, signals, every=130, end="complete", attrs=PLANNED, start_loss=5.0)
    assert ended(study, curves(2.0, 4.0)) == 2


def test_too_few_peers_end_nothing():
    assert ended(sweep(*GOOD[:2]), curves(2.0, 4.0)) is None


def test_values_late_in_training_are_not_judged():
    study = sweep(*GOOD)
    late = {"attrs": {"planned_samples": 150}}
    assert ended(study, curves(2.0, 4.0), EarlyDynamicsPruner(learn_directions=False, until=0.5), **late) is None


def test_the_last_survivor_is_kept():
    assert ended(sweep(*GOOD, end="pruned"), curves(2.0, 4.0)) is None


def test_a_calibration_trial_is_kept():
    assert ended(sweep(*GOOD), curves(2.0, 4.0), attrs={**PLANNED, "calibration": True}) is None


def test_a_trial_that_learns_nothing_gets_no_credit_for_being_calm():
    objectives = [curves(3.0, 0.5, 2.0), curves(3.1, 0.4, 2.1), curves(3.2, 0.6, 2.2)]
    idle = {"train_loss": [5.0] * 5, "grad_norm": [0.1] * 5, "objective": [3.0] * 5}
    assert ended(sweep(*objectives), idle) == 1
    assert ended(sweep(*objectives), {**idle, "train_loss": [4.0, 3.9, 3.8, 3.7, 3.6]}) is None


def test_a_good_held_out_objective_protects_a_trial_whose_dynamics_look_bad():
    objectives = [curves(3.0, 0.5, 2.0), curves(3.1, 0.4, 2.1), curves(3.2, 0.6, 2.2)]
    assert ended(sweep(*objectives), curves(2.0, 4.0, 1.0)) is None
    assert ended(sweep(*objectives), curves(2.0, 4.0, 2.5)) == 1


def test_the_objectives_direction_is_respected():
    objectives = [curves(3.0, 0.5, 0.6), curves(3.1, 0.4, 0.5), curves(3.2, 0.6, 0.4)]
    assert ended(sweep(*objectives, direction="maximize"), curves(2.0, 4.0, 0.7)) is None
    assert ended(sweep(*objectives, direction="maximize"), curves(2.0, 4.0, 0.1)) == 1


def reversed_world():
    """Finished trials in which a high norm and a low loss went with the better (lower) final objective."""
    return [curves(3.0 + 0.1 * k, 2.0 - 0.2 * k, 1.0 + 0.1 * k) for k in range(8)]


def test_finished_trials_overturn_the_papers_directions():
    study = sweep(*reversed_world())
    paper_bad = curves(2.5, 3.0)
    paper_good = curves(4.0, 0.1)
    assert ended(study, paper_bad, EarlyDynamicsPruner(learn_directions=False)) == 1
    assert ended(study, paper_bad, EarlyDynamicsPruner()) is None
    assert ended(study, paper_good, EarlyDynamicsPruner()) == 1


def test_directions_may_be_given():
    pruner = EarlyDynamicsPruner(directions={"train_loss": "lower", "grad_norm": "higher"}, learn_directions=False)
    assert ended(sweep(*GOOD), curves(2.0, 4.0), pruner) is None
    assert ended(sweep(*GOOD), curves(4.0, 0.1), pruner) == 1


def test_the_verdict_names_signals_peers_and_threshold():
    study = sweep(*GOOD)
    trial = run_trial(study, {n: c[:1] for n, c in curves(2.0, 4.0).items()}, attrs=PLANNED, start_loss=5.0)
    verdict = EarlyDynamicsPruner(learn_directions=False).verdict(study, trial.storage.get_trial(trial._trial_id))
    assert verdict.prunes
    assert verdict.signals == {"train_loss": 2.0, "grad_norm": 4.0}
    assert verdict.peers["num_peers"] == 3
    assert verdict.threshold == 0.7
    assert "grad_norm 4" in verdict.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_peers": 1},
        {"threshold": 0.5},
        {"threshold": True},
        {"until": 0},
        {"min_progress": 1},
        {"directions": {"loss": "higher"}},
        {"directions": {"train_loss": "up"}},
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        EarlyDynamicsPruner(**wrong)


@settings(max_examples=30, deadline=None)
@given(
    loss=st.lists(st.floats(0.1, 6.0), min_size=2, max_size=6),
    norm=st.floats(0.01, 10.0),
    keep=st.integers(1, 5),
)
def test_a_verdict_ignores_the_future(loss, norm, keep):
    whole = {"train_loss": loss, "grad_norm": [norm] * len(loss)}
    past = {name: values[:keep] for name, values in whole.items()}
    alone, longer = ended(sweep(*GOOD), past), ended(sweep(*GOOD), whole)
    assert longer == alone or (alone is None and longer > len(past["train_loss"]))


def test_being_behind_few_peers_says_less_than_being_behind_many():
    """Behind all but one in loss and all but one in norm: enough among sixteen peers, not among four."""
    few = sweep(curves(3.0, 0.5), curves(3.1, 0.4), curves(3.2, 0.6), curves(1.0, 5.0))
    many = sweep(*[curves(3.0 + 0.01 * k, 0.5) for k in range(15)], curves(1.0, 5.0))
    assert ended(few, curves(2.0, 4.0), EarlyDynamicsPruner(learn_directions=False, threshold=0.75)) is None
    assert ended(many, curves(2.0, 4.0), EarlyDynamicsPruner(learn_directions=False, threshold=0.75)) == 1


def test_a_spike_that_recovers_ends_nobody_and_one_that_stays_does():
    spike = curves(3.1, 0.5)
    for name, value in (("train_loss", 1.0), ("grad_norm", 9.0)):
        spike[name][2] = value
    assert ended(sweep(*GOOD), spike) is None
    for name, value in (("train_loss", 1.0), ("grad_norm", 9.0)):
        spike[name][3] = value
    assert ended(sweep(*GOOD), spike) == 4
