from __future__ import annotations

import pytest
from pruner_cases import INF, NAN, new_study, pruned_at, run_trial

from sweeper.core.errors import InputError
from sweeper.pruners import DivergenceGuard, EarlyDynamicsPruner, FirstOf, NonFiniteGuard, SampleAligned, from_spec
from sweeper.pruners.compose import known_pruners


def rules(spec) -> list[str]:
    return [p.rule for p in from_spec(spec, direction="minimize").pruners]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("early_dynamics", ["non_finite", "divergence", "early_dynamics"]),
        (["early_dynamics"], ["non_finite", "divergence", "early_dynamics"]),
        ([], ["non_finite", "divergence"]),
        ([{"median": {"n_startup_trials": 4}}, {"early_dynamics": None}], None),
        ([{"guards": False}, "median"], ["median"]),
        ([{"guards": True}, "median"], ["non_finite", "divergence", "median"]),
        (["median", {"guards": False}, "non_finite"], ["non_finite", "median"]),
        (["median", {"divergence": {"patience": 3}}], ["non_finite", "divergence", "median"]),
    ],
)
def test_guards_come_first_unless_they_are_switched_off(spec, expected):
    assert rules(spec) == (expected or ["non_finite", "divergence", "median", "early_dynamics"])


def test_parameters_reach_their_pruner():
    built = from_spec([{"divergence": {"patience": 4}}, {"early_dynamics": {"min_peers": 5}}], direction="minimize")
    assert isinstance(built.pruners[1], DivergenceGuard)
    assert built.pruners[1].patience == 4
    assert isinstance(built.pruners[2], EarlyDynamicsPruner)
    assert built.pruners[2].min_peers == 5


REQUIRED = {
    "percentile": {"percentile": 25.0},
    "threshold": {"upper": 3.0},
    "patient": {"patience": 2, "around": {"median": {"n_startup_trials": 1}}},
}


@pytest.mark.parametrize("name", list(known_pruners()))
def test_every_known_name_builds_and_judges(name):
    built = from_spec([{name: REQUIRED.get(name, {})}], direction="minimize")
    study = new_study()
    trial = run_trial(study, {"train_loss": [1.0], "objective": [1.0]})
    assert built.verdict(study, trial._get_latest_trial()).reason


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (["mediann"], r"pruner\.0: unknown pruner, got 'mediann' \(did you mean 'median'\?\)"),
        ([{"median": {"n_startup": 3}}], r"pruner\.0\.median: unknown parameter.*did you mean 'n_startup_trials'"),
        ([{"median": {"n_startup_trials": -1}}], r"pruner\.0\.median: .*cannot be negative"),
        ([{"median": {"n_startup_trials": "four"}}], r"pruner\.0\.median"),
        ([{"early_dynamics": {"min_peers": 0}}], r"pruner\.0\.early_dynamics\.min_peers: must be at least 2, got 0"),
        (["median", "percentile"], r"pruner\.1\.percentile: parameter 'percentile' is required"),
        ([{"median": 3}], r"pruner\.0\.median: parameters must be a mapping"),
        ([{"median": {}, "nop": {}}], r"pruner\.0: must be a name or one name"),
        ([{"guards": "loose"}], r"pruner\.0\.guards: must be on or off"),
        ([{"patient": {"patience": 1, "around": "medan"}}], r"pruner\.0\.patient\.around: unknown pruner"),
        ([{"threshold": {"upper": INF}}], r"pruner\.0\.threshold\.upper: must be finite"),
        ([7], r"pruner\.0: must be a name"),
    ],
)
def test_a_wrong_spec_is_refused_with_its_place_and_a_way_out(spec, told):
    with pytest.raises(InputError, match=told):
        from_spec(spec, direction="minimize")


def test_a_direction_is_checked():
    with pytest.raises(InputError, match="direction"):
        from_spec(["median"], direction="down")
    study = new_study("maximize")
    trial = run_trial(study, {"objective": [1.0]})
    with pytest.raises(InputError, match="direction"):
        from_spec(["median"], direction="minimize").verdict(study, trial._get_latest_trial())


def test_the_first_pruning_verdict_is_the_answer():
    study = new_study()
    trial = run_trial(study, {"train_loss": [NAN], "objective": [NAN]})
    frozen = trial._get_latest_trial()
    both = FirstOf([NonFiniteGuard(), SampleAligned(known_pruners()["median"]())])
    assert both.verdict(study, frozen).rule == "non_finite"
    turned = FirstOf([SampleAligned(known_pruners()["median"](), rule="median"), NonFiniteGuard()])
    assert turned.verdict(study, frozen).rule == "median"


def test_an_empty_first_of_is_refused():
    with pytest.raises(InputError, match="at least one"):
        FirstOf([])


def test_patient_holds_back_the_pruner_it_wraps():
    study = new_study()
    for level in (1.0, 1.1):
        run_trial(study, {"objective": [level] * 6}, end="complete")
    around = {"median": {"n_startup_trials": 1}}
    bad_but_improving = {"objective": [9.0, 8.0, 7.0, 6.0, 6.5, 6.6]}
    plain = from_spec([{"guards": False}, around], direction="minimize")
    patient = from_spec([{"guards": False}, {"patient": {"patience": 1, "around": around}}], direction="minimize")
    assert pruned_at(plain, study, bad_but_improving) == 1
    assert pruned_at(patient, study, bad_but_improving) == 6
