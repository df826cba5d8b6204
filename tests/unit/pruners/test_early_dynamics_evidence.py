"""What it takes to end a trial: the scores here all reach the threshold, so that only the rule under test decides."""

from __future__ import annotations

import pytest
from pruner_cases import new_study, pruned_at, run_trial

from sweeper.core.verdict import Verdict
from sweeper.pruners import EarlyDynamicsPruner

PLANNED = {"planned_samples": 1000}
START_LOSS = 9.0
"""Far above every loss here, so that every trial counts as learning."""


def sweep(*trials: dict[str, float], direction: str = "minimize", end: str | None = "complete"):
    study = new_study(direction)
    add(study, *trials, end=end)
    return study


def add(study, *trials: dict[str, float], end: str | None = "complete") -> None:
    for signals in trials:
        run_trial(study, flat(signals), attrs=PLANNED, start_loss=START_LOSS, end=end)


def flat(signals: dict[str, float]) -> dict[str, list[float]]:
    return {name: [value] * 3 for name, value in signals.items()}


def ends(study, signals: dict[str, float], pruner: EarlyDynamicsPruner) -> bool:
    milestone = pruned_at(pruner, study, flat(signals), attrs=PLANNED, start_loss=START_LOSS)
    assert milestone in (None, 1)
    return milestone == 1


def verdict(study, signals: dict[str, float], pruner: EarlyDynamicsPruner) -> Verdict:
    one = {name: [value] for name, value in signals.items()}
    trial = run_trial(study, one, attrs=PLANNED, start_loss=START_LOSS)
    return pruner.verdict(study, trial.storage.get_trial(trial._trial_id))


def score(found: Verdict) -> float:
    """The weighted badness, by the verdict's own signals and weights: with one undecided peer added to each."""
    names, count = found.signals, found.peers["num_peers"]
    weights = {name: abs(found.peers[f"{name}_correlation"]) for name in names}
    cautious = {name: (count * found.peers[f"{name}_badness"] + 0.5) / (count + 1) for name in names}
    return sum(weights[name] * cautious[name] for name in names) / sum(weights.values())


LADDER = [{"train_loss": 3.0 + k, "grad_norm": 1.0 + k, "objective": 1.0 + k / 10} for k in (0, 1, 2, 3)] * 4
"""Sixteen peers on four rungs. A norm of 2.5, a loss of 4.5 and an objective of 1.15 stand in the very middle."""
PAPER = EarlyDynamicsPruner(learn_directions=False)


@pytest.mark.parametrize(
    ("alone", "second"),
    [
        ({"grad_norm": 9.0, "train_loss": 4.5}, {"train_loss": 3.5}),
        ({"grad_norm": 2.5, "train_loss": 1.0}, {"grad_norm": 3.5}),
        ({"objective": 9.0, "train_loss": 5.0, "grad_norm": 2.5}, {"train_loss": 3.5}),
        ({"objective": 9.0, "train_loss": 4.5, "grad_norm": 2.5}, {"grad_norm": 3.5}),
    ],
)
def test_one_bad_signal_ends_nobody_however_bad_and_a_second_one_does(alone, second):
    found = verdict(sweep(*LADDER), alone, PAPER)
    assert score(found) > PAPER.threshold
    assert sum(found.peers[f"{name}_badness"] > 0.5 for name in alone) == 1
    assert not found.prunes
    assert not ends(sweep(*LADDER), alone, PAPER)
    assert ends(sweep(*LADDER), {**alone, **second}, PAPER)


NORM_TELLS = [
    {"grad_norm": 1.0 + k, "train_loss": 5.0 if 5 <= k < 15 else 4.0, "objective": 1.0 + k} for k in range(20)
]
"""The norm foretold every final; the loss, high in the middle and low at both ends, has a rank correlation of 0."""


def test_one_signal_that_is_believed_far_more_than_the_other_still_needs_it_to_agree():
    """Finished trials show that the norm foretells everything and the loss hardly anything."""
    found = verdict(sweep(*NORM_TELLS), {"grad_norm": 99.0, "train_loss": 5.5}, EarlyDynamicsPruner())
    assert score(found) > 0.9
    assert not found.prunes
    assert ends(sweep(*NORM_TELLS), {"grad_norm": 99.0, "train_loss": 1.0}, EarlyDynamicsPruner())


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_an_objective_in_the_middle_of_the_peers_protects_and_one_below_the_middle_does_not(direction):
    sign = 1.0 if direction == "minimize" else -1.0
    peers = [{**signals, "objective": sign * signals["objective"]} for signals in LADDER]
    bad = {"grad_norm": 9.0, "train_loss": 1.0}
    protected = {**bad, "objective": sign * 1.15}
    found = verdict(sweep(*peers, direction=direction), protected, PAPER)
    assert score(found) > PAPER.threshold
    assert found.peers["objective_badness"] == 0.5
    assert not found.prunes
    assert not ends(sweep(*peers, direction=direction), protected, PAPER)
    assert ends(sweep(*peers, direction=direction), {**bad, "objective": sign * 1.25}, PAPER)


def test_the_best_objective_protects_however_surely_the_dynamics_condemn():
    """Forty finished trials whose dynamics foretold everything outweigh the objective, but do not overrule it."""
    peers = [{"grad_norm": 1.0 + k, "train_loss": 8.0 - k / 10, "objective": 1.0 + k} for k in range(40)]
    bad = {"grad_norm": 99.0, "train_loss": 1.0}
    found = verdict(sweep(*peers), {**bad, "objective": 0.5}, EarlyDynamicsPruner())
    assert found.peers["objective_badness"] == 0
    assert score(found) > 0.7
    assert not found.prunes
    assert ends(sweep(*peers), {**bad, "objective": 30.0}, EarlyDynamicsPruner())


def contrary(count: int, *, sign: float = 1.0) -> list[dict[str, float]]:
    """Trials in which a high norm and a low loss went with the better objective, without exception."""
    return [{"grad_norm": 1.0 + k, "train_loss": 8.0 - k / 10, "objective": sign * (99.0 - k)} for k in range(count)]


BAD_BY_THE_PAPER = {"grad_norm": 99.0, "train_loss": 1.0}


@pytest.mark.parametrize(
    ("count", "believed"),
    [(3, (4 * -0.3 + 3) / 7), (4, (-0.3 + 1) / 2), (8, (4 * -0.3 + 8) / 12), (36, (4 * -0.3 + 36) / 40)],
)
@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_the_prior_weighs_as_much_as_four_finished_trials(count, believed, direction, sign):
    study = sweep(*contrary(count, sign=sign), direction=direction)
    found = verdict(study, BAD_BY_THE_PAPER, EarlyDynamicsPruner())
    assert found.peers["grad_norm_correlation"] == pytest.approx(believed)
    assert found.peers["train_loss_correlation"] == pytest.approx(-believed)


@pytest.mark.parametrize("end", ["pruned", None])
def test_only_finished_trials_teach(end):
    """Forty trials that were ended or still run say nothing yet; three that finished do."""
    study = sweep(*contrary(40), end=end)
    add(study, *contrary(3))
    found = verdict(study, BAD_BY_THE_PAPER, EarlyDynamicsPruner())
    assert found.peers["num_peers"] == 43
    assert found.peers["grad_norm_correlation"] == pytest.approx((4 * -0.3 + 3) / 7)


def test_weak_evidence_overturns_the_paper_when_there_is_enough_of_it():
    """The same contrary rank correlation of 0.2 from 4 and from 8 finished trials, against a prior of 4 x 0.3."""
    finals = (2.0, 3.0, 4.0, 1.0)
    pattern = [{"grad_norm": 1.0 + k, "train_loss": 8.0 - k, "objective": final} for k, final in enumerate(finals)]
    good_by_the_paper = {"grad_norm": 0.1, "train_loss": 8.5}
    few, enough = pattern, pattern * 2
    assert ends(sweep(*few), BAD_BY_THE_PAPER, EarlyDynamicsPruner())
    assert not ends(sweep(*few), good_by_the_paper, EarlyDynamicsPruner())
    assert not ends(sweep(*enough), BAD_BY_THE_PAPER, EarlyDynamicsPruner())
    assert ends(sweep(*enough), good_by_the_paper, EarlyDynamicsPruner())


def test_the_signal_that_foretold_the_finals_weighs_more():
    """Both signals put both trials into the worse half: one by its norm rather than its loss, one the other way."""
    by_norm, by_loss = {"grad_norm": 99.0, "train_loss": 4.0}, {"grad_norm": 13.5, "train_loss": 1.0}
    learned, given = EarlyDynamicsPruner(threshold=0.9), EarlyDynamicsPruner(threshold=0.8, learn_directions=False)
    assert ends(sweep(*NORM_TELLS), by_norm, learned)
    assert not ends(sweep(*NORM_TELLS), by_loss, EarlyDynamicsPruner(threshold=0.7))
    # Believed alike, they stand the other way round: 0.86 and 0.81.
    assert not ends(sweep(*NORM_TELLS), by_norm, EarlyDynamicsPruner(threshold=0.9, learn_directions=False))
    assert ends(sweep(*NORM_TELLS), by_loss, given)
