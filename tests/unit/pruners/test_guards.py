"""The tables are the specification: a curve, and the milestone at which the guard ends it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pruner_cases import INF, NAN, new_study, pruned_at, run_trial

from sweeper.core.errors import InputError
from sweeper.pruners import DivergenceGuard, NonFiniteGuard

LEARNS = [2.0, 1.5, 1.2, 1.0, 0.9, 0.85]


@pytest.mark.parametrize("signal", ["train_loss", "grad_norm", "objective"])
@pytest.mark.parametrize(
    ("curve", "milestone"),
    [
        ([NAN, 1.0, 1.0], 1),
        ([1.0, NAN, 1.0], 2),
        ([1.0, 1.0, NAN], 3),
        ([1.0, INF, 1.0], 2),
        ([1.0, -INF, 1.0], 2),
        ([1.0, 1.0, 1.0], None),
        ([1.0, 1e30, 1.0], None),
    ],
)
def test_a_non_finite_value_ends_the_trial_at_that_report(signal, curve, milestone):
    assert pruned_at(NonFiniteGuard(), new_study(), {signal: curve}) == milestone


@pytest.mark.parametrize(
    ("case", "loss", "milestone"),
    [
        ("explodes at once and stays", [1.0, 50.0, 80.0, 90.0], 3),
        ("explodes after a good start", [2.0, 1.5, 1.2, 6.0, 9.0, 9.0], 5),
        ("climbs steadily from a low", [2.0, 1.0, 1.7, 2.9, 4.9, 8.3], 5),
        ("spike that recovers at the next milestone", [2.0, 1.5, 40.0, 1.2, 1.1, 1.0], None),
        ("two spikes apart", [2.0, 40.0, 1.5, 40.0, 1.2, 1.1], None),
        ("plateau", [2.0, 1.5, 1.5, 1.5, 1.5, 1.5], None),
        ("learns nothing", [2.0, 2.0, 2.0, 2.0, 2.0, 2.0], None),
        ("learns", LEARNS, None),
        ("rises slowly above its start", [2.0, 2.3, 2.7, 3.0, 3.2, 3.3], 4),
        ("memorises, then a small rise in absolute terms", [2.0, 0.5, 0.01, 0.05, 0.05, 0.05], None),
        ("noisy around a level", [2.0, 1.4, 2.1, 1.5, 2.2, 1.3], None),
    ],
)
def test_divergence_of_the_training_loss(case, loss, milestone):
    assert pruned_at(DivergenceGuard(), new_study(), {"train_loss": loss}) == milestone, case


@pytest.mark.parametrize(
    ("direction", "objective", "milestone"),
    [
        ("minimize", [1.0, 50.0, 80.0, 90.0], 3),
        ("minimize", [1.0, 50.0, 1.0, 0.9], None),
        ("minimize", [3.0, 2.0, 1.8, 2.1], None),
        ("minimize", [-3.0, -4.0, 50.0, 60.0], None),
        ("maximize", [0.5, 50.0, 80.0, 90.0], None),
    ],
)
def test_divergence_of_an_objective_that_is_minimised(direction, objective, milestone):
    study = new_study(direction)
    trial = study.ask()
    ended = None
    for k, value in enumerate(objective):
        trial.report(value, 100 * (k + 1))
        if ended is None and DivergenceGuard().prune(study, trial.storage.get_trial(trial._trial_id)):
            ended = k + 1
    assert ended == milestone


def test_a_rise_is_judged_from_the_untrained_models_own_loss():
    exploded = {"train_loss": [6.0, 6.1, 6.1]}
    assert pruned_at(DivergenceGuard(), new_study(), exploded, start_loss=3.0) == 2
    assert pruned_at(DivergenceGuard(), new_study(), exploded) is None


def test_a_trial_exploded_from_its_first_report_is_known_by_its_peers():
    study = new_study()
    for scale in (1.0, 1.1, 0.9):
        run_trial(study, {"train_loss": [scale * v for v in LEARNS]}, end="complete")
    assert pruned_at(DivergenceGuard(), study, {"train_loss": [30.0, 31.0, 30.0]}) == 2
    assert pruned_at(DivergenceGuard(), study, {"train_loss": [2.5, 2.2, 2.0]}) is None


def healthy_peers(**how):
    """Peers whose medians at the first six milestones are those of ``LEARNS``; their band ends at three times those."""
    study = new_study()
    for scale in (1.0, 1.1, 0.9):
        run_trial(study, {"train_loss": [scale * v for v in LEARNS]}, end="complete", **how)
    return study


@pytest.mark.parametrize(
    ("case", "patience", "loss", "milestone"),
    [
        ("outside at the first report alone", 2, [30.0, 1.5, 1.2, 1.0], None),
        ("outside at the latest report alone", 2, [2.0, 30.0, 1.2, 1.0], None),
        ("outside at every other report", 2, [30.0, 1.5, 30.0, 1.0], None),
        ("outside from the first report on", 2, [30.0, 31.0, 30.0, 29.0], 2),
        ("outside twice where three are asked", 3, [30.0, 31.0, 1.2, 1.0], None),
        ("back inside between", 3, [30.0, 1.5, 30.0, 30.0, 1.0], None),
        ("outside three times", 3, [30.0, 31.0, 30.0, 29.0], 3),
        ("outside once where one is asked", 1, [30.0, 1.5], 1),
    ],
)
def test_every_one_of_the_latest_reports_must_lie_outside_the_peers_band(case, patience, loss, milestone):
    # Without room for a rise of its own, only the comparison with peers can end a trial here.
    guard = DivergenceGuard(patience=patience, rise=1e6)
    assert pruned_at(guard, healthy_peers(), {"train_loss": loss}) == milestone, case


def test_each_report_is_compared_with_the_peers_at_its_own_samples():
    """A loss of 4 is inside the band at 100 and 200 samples (6.0, 4.5) and outside at 300 and 400 (3.6, 3.0)."""
    assert pruned_at(DivergenceGuard(), healthy_peers(), {"train_loss": [4.0] * 6}) == 4


def test_a_milestone_that_too_few_peers_reached_after_their_warmup_counts_for_nothing():
    """Peers still warming up at the first milestone: the second and the third are the first two in a row."""
    study = healthy_peers(warmup_milestones=1)
    assert pruned_at(DivergenceGuard(), study, {"train_loss": [30.0, 31.0, 30.0, 29.0]}) == 3


def test_peers_that_scatter_widely_widen_the_band():
    study = new_study()
    for scale in (0.1, 1.0, 10.0, 100.0, 0.01):
        run_trial(study, {"grad_norm": [scale, scale, scale]}, end="complete")
    assert pruned_at(DivergenceGuard(), study, {"grad_norm": [50.0, 50.0, 50.0]}) is None


def test_an_exploding_gradient_norm_ends_the_trial_unless_its_loss_is_at_its_lowest():
    norms = [1.0, 1.0, 30.0, 40.0, 50.0]
    assert pruned_at(DivergenceGuard(), new_study(), {"grad_norm": norms, "train_loss": [2.0, 1.5, 1.6, 1.6, 1.6]}) == 4
    falling = {"grad_norm": norms, "train_loss": [2.0, 1.5, 1.4, 1.3, 1.2]}
    assert pruned_at(DivergenceGuard(), new_study(), falling) is None


def test_reports_during_the_trials_own_warmup_are_not_judged():
    loss = {"train_loss": [1.0, 50.0, 80.0, 90.0, 90.0, 90.0]}
    assert pruned_at(DivergenceGuard(), new_study(), loss, warmup_milestones=4) == 6


def test_guards_end_calibration_trials_too():
    attrs = {"calibration": True}
    assert pruned_at(NonFiniteGuard(), new_study(), {"train_loss": [1.0, NAN]}, attrs=attrs) == 2
    assert pruned_at(DivergenceGuard(), new_study(), {"train_loss": [1.0, 50.0, 80.0]}, attrs=attrs) == 3


def test_a_verdict_says_what_was_seen_and_what_the_limit_was():
    study = new_study()
    trial = run_trial(study, {"train_loss": [1.0, 50.0, 80.0]})
    verdict = DivergenceGuard().verdict(study, trial.storage.get_trial(trial._trial_id))
    assert verdict.prunes
    assert verdict.rule == "divergence"
    assert verdict.signals == {"train_loss": 80.0}
    assert verdict.threshold == pytest.approx(1.25)
    assert "80" in verdict.reason
    assert verdict.samples_seen == 300


@pytest.mark.parametrize(
    "wrong",
    [{"patience": 0}, {"patience": 1.5}, {"rise": 0}, {"factor": 1.0}, {"band": NAN}, {"min_peers": 1}, {"rise": "x"}],
)
def test_a_wrong_setting_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DivergenceGuard(**wrong)


values = st.one_of(st.floats(0.01, 100.0), st.just(NAN), st.just(INF))


@settings(max_examples=50, deadline=None)
@given(past=st.lists(values, min_size=1, max_size=6), future=st.lists(values, min_size=1, max_size=4))
def test_a_guards_verdict_ignores_the_future(past, future):
    """The milestone at which a curve ends must not hang on what would have come after it."""
    for guard in (NonFiniteGuard(), DivergenceGuard()):
        alone = pruned_at(guard, new_study(), {"train_loss": past})
        longer = pruned_at(guard, new_study(), {"train_loss": past + future})
        assert longer == alone or (alone is None and longer > len(past))
