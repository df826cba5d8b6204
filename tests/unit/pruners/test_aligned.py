from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pruner_cases import INF, NAN, new_study

from sweeper.pruners import SampleAligned

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

MAKERS = {
    "median": lambda: MedianPruner(n_startup_trials=2),
    "percentile": lambda: PercentilePruner(25.0, n_startup_trials=2),
    "halving": lambda: SuccessiveHalvingPruner(min_resource=100, reduction_factor=2),
    "halving_auto": lambda: SuccessiveHalvingPruner(reduction_factor=3),
    "hyperband": lambda: HyperbandPruner(min_resource=100, max_resource=800, reduction_factor=2),
    "patient": lambda: PatientPruner(MedianPruner(n_startup_trials=2), patience=1),
    "threshold": lambda: ThresholdPruner(upper=2.0),
    "wilcoxon": lambda: WilcoxonPruner(p_threshold=0.2),
    "nop": NopPruner,
}


def play(pruner, curves, direction, *, every=100, storage=None) -> list[int | None]:
    """Run the curves one after another; return the milestone at which each was ended."""
    study = new_study(direction, storage=storage)
    ends: list[int | None] = []
    for curve in curves:
        trial = study.ask()
        ends.append(None)
        for k, value in enumerate(curve):
            trial.report(value, every * (k + 1))
            if pruner.prune(study, trial._get_latest_trial()):
                ends[-1] = k + 1
                break
        if ends[-1] is None:
            study.tell(trial, curve[-1])
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return ends


def random_curves(seed: int, count: int = 14, length: int = 8) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    final = rng.uniform(0.5, 2.0, count)
    noise = rng.normal(0, 0.1, (count, length))
    return (final[:, None] + 2.0 / np.arange(1, length + 1) + noise).tolist()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", list(MAKERS))
def test_where_axes_coincide_the_wrapper_equals_the_bare_pruner(name, direction):
    for seed in range(3):
        curves = random_curves(seed)
        bare = play(MAKERS[name](), curves, direction)
        assert play(SampleAligned(MAKERS[name]()), curves, direction) == bare


@pytest.mark.parametrize("name", ["halving", "hyperband", "median"])
def test_pruners_that_keep_books_work_on_a_journal_file(name, tmp_path):
    curves = random_curves(1)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    in_memory = play(SampleAligned(MAKERS[name]()), curves, "minimize")
    assert play(SampleAligned(MAKERS[name]()), curves, "minimize", storage=storage) == in_memory
    assert any(in_memory)


def uneven_study(direction: str = "minimize") -> optuna.Study:
    """Five finished trials that report every 130 samples, at values 1 to 5 falling by 0.1 each time."""
    study = new_study(direction)
    for level in (1.0, 2.0, 3.0, 4.0, 5.0):
        trial = study.ask()
        for k in range(10):
            trial.report(level - 0.1 * k, 130 * (k + 1))
        study.tell(trial, level - 0.9)
    return study


@pytest.mark.parametrize(("direction", "value", "ends"), [("minimize", 4.5, True), ("maximize", 4.5, False)])
def test_peers_are_found_at_equal_samples_whatever_their_batch_size(direction, value, ends):
    study = uneven_study(direction)
    trial = study.ask()
    trial.report(value, 200)
    frozen = trial._get_latest_trial()
    assert not MedianPruner(n_startup_trials=2).prune(study, frozen)
    verdict = SampleAligned(MedianPruner(n_startup_trials=2)).verdict(study, frozen)
    assert verdict.prunes is ends
    assert verdict.peers["median"] == pytest.approx(3.0 - 0.1 * 70 / 130)
    assert verdict.peers["num_peers"] == 5
    assert verdict.signals == {"objective": 4.5}
    assert verdict.rule == "MedianPruner"
    assert "4.5" in verdict.reason


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", [n for n in MAKERS if n != "nop"])
def test_a_non_finite_objective_ends_the_trial_under_every_pruner_but_nop(name, value):
    study = uneven_study()
    trial = study.ask()
    trial.report(value, 200)
    assert SampleAligned(MAKERS[name]()).prune(study, trial._get_latest_trial())
    assert not SampleAligned(NopPruner()).prune(study, trial._get_latest_trial())


def test_a_peer_that_blew_up_does_not_move_the_bar():
    study = uneven_study()
    for _ in range(5):
        broken = study.ask()
        broken.report(INF, 100)
        broken.report(INF, 300)
        study.tell(broken, 99.0)
    trial = study.ask()
    trial.report(3.5, 200)
    assert SampleAligned(MedianPruner(n_startup_trials=2)).prune(study, trial._get_latest_trial())


def test_rung_values_are_compared_at_the_judged_trials_samples():
    """A peer passed the rung late, at a lower value; at the judged trial's samples it was worse than it."""
    study = new_study()
    pruner = SampleAligned(SuccessiveHalvingPruner(min_resource=100, reduction_factor=2))
    late = study.ask()
    late.report(5.0, 90)
    assert not pruner.prune(study, late._get_latest_trial())
    late.report(1.0, 190)
    assert not pruner.prune(study, late._get_latest_trial())
    trial = study.ask()
    trial.report(4.0, 100)
    assert not pruner.prune(study, trial._get_latest_trial())
    assert study.trials[0].system_attrs["completed_rung_0"] == 1.0


def test_a_calibration_trial_keeps_its_books_but_is_not_ended():
    study = new_study()
    pruner = SampleAligned(SuccessiveHalvingPruner(min_resource=100, reduction_factor=2))
    for value, calibration in ((1.0, False), (9.0, True)):
        trial = study.ask()
        trial.set_user_attr("calibration", calibration)
        trial.report(value, 100)
        assert not pruner.prune(study, trial._get_latest_trial())
        assert "completed_rung_0" in study.trials[-1].system_attrs


def test_a_milestone_without_objective_is_not_judged():
    study = uneven_study()
    trial = study.ask()
    assert not SampleAligned(MedianPruner(n_startup_trials=0)).prune(study, trial._get_latest_trial())


def test_the_storage_is_left_as_it_was():
    study = uneven_study()
    before = [dict(t.intermediate_values) for t in study.trials]
    trial = study.ask()
    trial.report(math.pi, 200)
    SampleAligned(WilcoxonPruner()).prune(study, trial._get_latest_trial())
    assert [dict(t.intermediate_values) for t in study.trials][:5] == before
