"""Early signals against final objectives: what is known, how surely, and what it says of the paper's claims."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from scipy.stats import spearmanr

from sweeper.core.closing import claim_lines
from sweeper.core.foretell import MIN_TRIALS, Correlation, Evidence, FinishedTrial, evidence, rank_correlation
from sweeper.core.measurement import Measurement
from sweeper.pruners import report
from sweeper.pruners.evidence import study_evidence


def trials(values, goodness, groups=None, signal="grad_norm") -> list[FinishedTrial]:
    groups = groups or [16] * len(values)
    rows = zip(groups, values, goodness, strict=True)
    return [FinishedTrial(group=g, goodness=y, values={signal: [x]}) for g, x, y in rows]


def only(found: tuple[Evidence, ...]) -> Evidence:
    assert len(found) == 1
    return found[0]


def test_the_correlation_is_spearmans_also_with_ties():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 5, 40).tolist(), rng.normal(size=40).tolist()
    found = rank_correlation(left, right)
    assert found is not None
    assert found.value == pytest.approx(spearmanr(left, right).statistic)
    assert found.low < found.value < found.high


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(1)
    truth = 6 / math.pi * math.asin(0.6 / 2)  # Spearman's of a normal pair with Pearson's 0.6
    pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=(400, 20))
    found = [rank_correlation(each[:, 0].tolist(), each[:, 1].tolist()) for each in pairs]
    held = np.mean([each is not None and each.low <= truth <= each.high for each in found])
    assert 0.91 <= held <= 0.98


@pytest.mark.parametrize("count", range(MIN_TRIALS))
def test_too_few_trials_say_nothing(count):
    found = evidence(trials(range(count), range(count)), [100])
    assert all(each.across is None and each.trials == count for each in found)


def test_a_perfect_order_has_an_interval_and_a_constant_signal_has_no_correlation():
    found = rank_correlation(range(7), range(7))
    assert found is not None
    assert found.value == pytest.approx(1)
    assert 0 < found.low < found.high < 1
    assert rank_correlation([1.0] * 7, range(7)) is None


@pytest.mark.parametrize("broken", [None, math.nan, math.inf])
def test_a_trial_without_a_finite_value_or_end_is_left_out(broken):
    values, goodness = [*range(8), broken, 3.5], [*range(8), -5.0, math.nan]
    found = only(evidence(trials(values, goodness), [100]))
    assert found.trials == 8
    assert found.across is not None
    assert found.across.value == pytest.approx(1)


def test_within_a_batch_size_may_say_the_opposite_of_across():
    """Larger batches have lower norms and end better; within one, a higher norm (a higher rate) ends better."""
    groups = [16] * 6 + [256] * 6
    values = [*range(10, 16), *range(6)]
    goodness = [*range(6), *range(10, 16)]
    found = only(evidence(trials(values, goodness, groups), [100]))
    assert found.across is not None
    assert found.within is not None
    assert found.across.value < 0 < found.within.low
    assert found.finding(found.within) == "does not hold"


def test_without_two_groups_there_is_nothing_within():
    assert only(evidence(trials(range(9), range(9)), [100])).within is None
    assert only(evidence(trials(range(9), range(9), list(range(9))), [100])).within is None


@pytest.mark.parametrize(
    ("signal", "value", "low", "high", "finding"),
    [
        ("grad_norm", -0.8, -0.9, -0.2, "holds"),
        ("grad_norm", 0.8, 0.2, 0.9, "does not hold"),
        ("grad_norm", -0.5, -0.9, 0.1, "not enough evidence"),
        ("train_loss", 0.8, 0.2, 0.9, "holds"),
        ("train_loss", -0.8, -0.9, -0.2, "does not hold"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_lies_on_its_side(signal, value, low, high, finding):
    found = Correlation(value=value, low=low, high=high, trials=12)
    row = Evidence(signal=signal, samples=1000, trials=12, across=found, within=None)
    assert row.finding(found) == finding
    assert row.finding(None) == "not enough evidence"
    (line,) = claim_lines([row])
    assert line.startswith("claims  ")
    assert f"{finding} at 1 of 1 milestone" in line
    assert "12 finished trials" in line


def test_the_closing_says_so_where_too_few_trials_ran_to_their_end():
    rows = evidence(trials([1.0, 2.0], [1.0, 2.0]), [100, 200][:1])
    assert claim_lines(rows) == [
        "claims  lower early grad_norm ends better: not enough evidence, 2 trials ran to the end"
    ]
    assert claim_lines([]) == []


def test_a_studys_evidence_rests_on_complete_trials_past_their_warmup():
    study = optuna.create_study(direction="minimize")
    for index in range(8):
        trial = study.ask()
        trial.set_user_attr("axes", {"batch_size": 16 if index % 2 else 64})
        for k in (1, 2):
            measured = Measurement(
                milestone=k,
                samples_seen=100 * k,
                tokens_seen=1,
                step=k,
                warmup_done=k == 2,
                train_loss=2.0 - 0.1 * index,
                grad_norm=1.0 + 0.1 * index,
                scores={},
                train_s=1.0,
                eval_s=0.0,
                peak_memory_bytes=1,
                is_last=False,
                extra={"noise_scale": 3.0},
            )
            report(trial, measured, 1.0 + index)
        study.tell(trial, 1.0 + index)
    study.tell(study.ask(), state=optuna.trial.TrialState.PRUNED)
    found = {(each.signal, each.samples): each for each in study_evidence(study, [100, 200])}
    assert {name for name, _ in found} == {"objective", "train_loss", "grad_norm", "noise_scale"}
    assert found["grad_norm", 100].trials == 0, "still in its warmup"
    late = found["grad_norm", 200]
    assert late.trials == 8
    assert late.finding(late.across) == "holds", "the higher the norm, the higher the final loss"
    assert late.finding(late.within) == "holds"
