"""Held-back trials: which run on, how often a prune was wrong, and when a rule is no longer believed."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from sweeper.core.closing import closing_lines
from sweeper.core.hold_back import HoldBack, condemned_by, contradiction, false_prunes, wilson
from sweeper.core.milestones import Milestones
from sweeper.core.record import SweepInfo, SweepSummary, TrialRow, summarise
from sweeper.core.verdict import proceed, prune

ALL = HoldBack(share=1.0, seed=0, exempt=frozenset({"non_finite"}))
MEDIAN = prune("median", "objective 3 is above the median 2", 400, signals={"objective": 3.0}, threshold=2.0)


def test_a_held_back_prune_lets_the_trial_go_on_and_says_what_would_have_been():
    verdict = ALL.apply("f", MEDIAN)
    assert not verdict.prunes
    assert condemned_by(verdict) == "median"
    assert MEDIAN.reason in verdict.reason
    assert (verdict.samples_seen, verdict.signals, verdict.threshold) == (400, MEDIAN.signals, 2.0)


def test_a_guard_and_a_verdict_that_prunes_nothing_stay_as_they_are():
    for verdict in (prune("non_finite", "loss is NaN", 400), proceed("median", "fine", 400)):
        assert ALL.apply("f", verdict) is verdict
        assert condemned_by(verdict) is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_kept_and_each_trials_lot_hangs_on_the_seed_and_itself_alone(share):
    chosen = {
        seed: [HoldBack(share=share, seed=seed, exempt=frozenset()).chooses(str(k)) for k in range(2000)]
        for seed in (0, 1)
    }
    assert sum(chosen[0]) / 2000 == pytest.approx(share, abs=0.03)
    assert chosen[0] == [HoldBack(share=share, seed=0, exempt=frozenset()).chooses(str(k)) for k in range(2000)]
    assert (chosen[0] == chosen[1]) == (share in (0.0, 1.0))


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (1, 5), (5, 5), (3, 40)])
def test_the_interval_is_wilsons(hits, trials):
    expected = binomtest(hits, trials).proportion_ci(method="wilson")
    assert wilson(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_prune_is_false_where_its_trial_ended_as_good_as_the_best(sign):
    finals = {"best": 1.0, "tie": 1.04, "worse": 1.2, "middle": 2.0, "x": 3.0, "y": 4.0, "z": 5.0}
    finals = {key: sign * value for key, value in finals.items()}
    found = false_prunes(finals, ["tie", "worse", "never ended"], maximize=sign < 0)
    assert found is not None
    assert (found.trials, found.false, found.rate) == (2, 1, 0.5)
    assert 0 < found.low < 0.5 < found.high < 1
    assert false_prunes(finals, ["never ended"], maximize=sign < 0) is None


@pytest.mark.parametrize(
    ("final", "others", "speaks"),
    [
        (1.0, [2.0, 3.0], True),
        (1.0, [1.01, 3.0, 4.0], False),  # a tie: the sweep would have kept one as good
        (2.5, [2.0, 3.0], False),
        (1.0, [], False),
    ],
)
def test_a_rule_is_contradicted_where_the_sweep_would_have_lost_its_best(final, others, speaks):
    for sign in (1, -1):
        found = contradiction("lr1e-4", sign * final, [sign * value for value in others], maximize=sign < 0)
        assert (found is not None) == speaks
        assert found is None or "lr1e-4" in found


def test_the_closing_tells_the_rate_and_the_rules_no_longer_believed():
    finals = [1.0, 1.2, 2.0, 3.0]
    rows = [
        TrialRow(fingerprint=str(k), name=f"t{k}", axes={}, state="complete", objective=v, held_back="median" * (k < 2))
        for k, v in enumerate(finals)
    ]
    info = SweepInfo(
        name="s", objective="loss", direction="minimize", milestones=Milestones((1,)), space_yaml="", folder=""
    )
    summary = summarise(info, rows, elapsed_s=1.0, suspended={"median": "t0 ended best"})
    assert SweepSummary.from_json(summary.to_json()) == summary
    numbers = summary.metrics()
    assert (numbers["held_back_trials"], numbers["false_prune_rate"]) == (2, 0.5)
    assert numbers["false_prune_rate_low"] < 0.5 < numbers["false_prune_rate_high"]
    said = "\n".join(closing_lines(summary))
    assert "checked 1 of 2 trials held back from a prune ended as good as the best: 50% false prunes" in said
    assert "        median prunes no longer, for t0 ended best" in said
