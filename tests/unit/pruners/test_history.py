from __future__ import annotations

import math

import optuna
import pytest
from pruner_cases import INF, NAN, measurement, new_study, run_trial

from sweeper.pruners.history import finite_peer_values, history, peers_of, remembered
from sweeper.pruners.record import is_calibration, planned_samples, report


def frozen(trial: optuna.Trial) -> optuna.trial.FrozenTrial:
    return trial.storage.get_trial(trial._trial_id)


@pytest.mark.parametrize("kind", ["memory", "journal", "sqlite"])
def test_what_is_reported_is_read_back_from_every_storage(kind, tmp_path):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = {
        "memory": lambda: None,
        "journal": lambda: JournalStorage(JournalFileBackend(str(tmp_path / "journal"))),
        "sqlite": lambda: f"sqlite:///{tmp_path / 'study.db'}",
    }[kind]()
    trial = new_study(storage=storage).ask()
    scores = {"heldout_loss": 2.5}
    report(trial, measurement(1, 100, train_loss=NAN, grad_norm=INF, scores=scores, extra={"noise_scale": 7.0}), 0.5)
    past = history(frozen(trial))
    assert math.isnan(past.latest("train_loss"))
    assert past.latest("grad_norm") == INF
    assert past.latest("heldout_loss") == 2.5
    assert past.latest("noise_scale") == 7.0
    assert past.latest("objective") == 0.5
    assert past.samples_seen == 100


def test_reporting_a_milestone_again_changes_nothing():
    trial = new_study().ask()
    report(trial, measurement(1, 100, train_loss=2.0), 0.5)
    before = (dict(frozen(trial).user_attrs), dict(frozen(trial).intermediate_values))
    report(trial, measurement(1, 100, train_loss=9.0), 0.9)
    assert (frozen(trial).user_attrs, frozen(trial).intermediate_values) == before


def test_a_milestone_without_objective_has_signals_only():
    trial = new_study().ask()
    report(trial, measurement(1, 100), None)
    past = history(frozen(trial))
    assert past.latest("objective") is None
    assert past.latest("train_loss") == 1.0


@pytest.mark.parametrize(
    ("samples", "value"),
    [(99, None), (100, 1.0), (150, 1.5), (200, 2.0), (250, NAN), (300, NAN), (400, 4.0), (401, None)],
)
def test_values_between_points_are_interpolated_and_never_extrapolated(samples, value):
    trial = run_trial(new_study(), {"train_loss": [1.0, 2.0, NAN, 4.0]})
    assert history(frozen(trial)).value_at("train_loss", samples) == pytest.approx(value, nan_ok=True)


def test_a_plain_optuna_trial_has_an_objective_and_no_warmup():
    trial = new_study().ask()
    for step in (10, 20):
        trial.report(float(step), step)
    past = history(frozen(trial))
    assert past.value_at("objective", 15) == 15.0
    assert past.warmup_end == 0
    assert past.curve("train_loss").value_at(15) is None
    assert not is_calibration(frozen(trial))
    assert planned_samples(frozen(trial)) is None


def test_a_live_trial_and_its_frozen_form_have_the_same_history():
    trial = run_trial(new_study(), {"train_loss": [1.0, 2.0], "objective": [3.0, 4.0]})
    assert history(trial) == history(frozen(trial))


def test_values_from_warmup_are_not_offered_to_peers():
    study = new_study()
    run_trial(study, {"train_loss": [1.0, 2.0, 3.0]}, warmup_milestones=1, end="complete")
    own = frozen(run_trial(study, {"train_loss": [1.0, 1.0, 1.0]}))
    peers = peers_of(study, own)
    assert list(finite_peer_values(study, peers, "train_loss", 100)) == []
    assert list(finite_peer_values(study, peers, "train_loss", 250)) == [2.5]


def test_a_failed_trial_is_no_peer():
    study = new_study()
    trial = run_trial(study, {"train_loss": [1.0]})
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert peers_of(study, frozen(run_trial(study, {"train_loss": [1.0]}))) == []


def test_the_memory_of_a_running_trial_grows_with_its_record():
    study = new_study()
    trial = study.ask()
    for k in (1, 2, 3):
        report(trial, measurement(k, 100 * k, train_loss=float(k)), None)
        assert remembered(study, frozen(trial)) == history(frozen(trial))


def test_growing_by_one_report_equals_reading_the_whole_record():
    study = new_study()
    trial = study.ask()
    assert remembered(study, frozen(trial)) == history(frozen(trial))
    for k in range(1, 7):
        objective = None if k % 2 else float(k)
        done = measurement(
            k, 100 * k, train_loss=float(k), warmup_done=k > 2, extra={"noise_scale": 1.0} if k > 3 else {}
        )
        report(trial, done, objective)
        assert remembered(study, frozen(trial)) == history(frozen(trial))
        trial.set_user_attr(f"verdict:{k}", "continue")
        assert remembered(study, frozen(trial)) == history(frozen(trial))


def test_two_reports_at_once_are_both_remembered():
    study = new_study()
    trial = study.ask()
    report(trial, measurement(1, 100), 1.0)
    remembered(study, frozen(trial))
    report(trial, measurement(2, 200), 2.0)
    report(trial, measurement(3, 300), 3.0)
    assert remembered(study, frozen(trial)) == history(frozen(trial))
