"""What a sweep says of the paper's findings, against answers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from report_cases import sweep, trial

from sweeper.report.findings import Finding, findings
from sweeper.report.record import SweepRecord

AXES: dict[str, list[Any]] = {
    "batch_size": [32, 128],
    "learning_rate": [1e-4, 1e-3],
    "warmup_steps": [0, 10],
    "schedule": ["constant", "cosine", "linear"],
}


def full(loss_of: Callable[[dict[str, Any]], float]) -> SweepRecord:
    cells = [dict(zip(AXES, values, strict=True)) for values in product(*AXES.values())]
    return sweep([trial(axes, loss_of(axes) + 1e-4 * place) for place, axes in enumerate(cells)])


def answers(record: SweepRecord) -> dict[str, Finding]:
    return {each.claim: each for each in findings(record)}


def test_a_sweep_in_which_the_paper_is_right_in_everything():
    found = answers(full(lambda axes: 2.0 - 0.5 * (axes["batch_size"] == 128) + 0.5 * (axes["learning_rate"] == 1e-3)))
    assert {claim: each.answer for claim, each in found.items()} == {
        "a larger batch ends better": "holds",
        "the best learning rate need not grow with the batch": "holds",
        "a lower learning rate ends better": "holds",
        "warmup is needless": "holds",
        "a constant rate is as good as a decay": "holds",
    }
    batch = found["a larger batch ends better"]
    assert (batch.pairs, batch.alone) == (6, 0)
    assert batch.effect is not None
    assert batch.effect.value == pytest.approx(0.5, abs=0.01)


def test_a_sweep_in_which_the_paper_is_wrong():
    def loss(axes: dict[str, Any]) -> float:
        needed = 0.3 * (axes["warmup_steps"] == 10) + 0.3 * (axes["schedule"] != "constant")
        return 3.0 - needed + 0.6 * (axes["batch_size"] == 128) - 0.5 * (axes["learning_rate"] == 1e-3)

    found = answers(full(loss))
    assert found.pop("the best learning rate need not grow with the batch").answer == "holds"
    assert {each.answer for each in found.values()} == {"does not hold"}
    assert len(found) == 4


def test_the_exponent_of_the_linear_rule_is_the_growth_of_rate_over_batch():
    found = answers(full(lambda axes: float((axes["batch_size"] == 128) != (axes["learning_rate"] == 1e-3))))
    scaling = found["the best learning rate need not grow with the batch"]
    assert scaling.effect is not None
    assert scaling.effect.value == pytest.approx(1.661, abs=1e-3), "log 10 / log 4"
    assert scaling.answer == "does not hold"


def test_pairs_come_from_settings_that_ran_to_their_end_with_seeds_taken_together():
    cells = [
        trial({"warmup_steps": warmup, "learning_rate": rate, "seed": seed}, 1.0 + rate + 0.1 * seed)
        for warmup in (0, 10)
        for rate in (1.0, 2.0, 3.0, 4.0)
        for seed in (0, 1)
        if (warmup, rate) != (10, 4.0)
    ]
    cut = trial({"warmup_steps": 10, "learning_rate": 4.0, "seed": 0}, 9.0, "pruned", samples=64, rule="calibrated")
    warmup = answers(sweep([*cells, cut]))["warmup is needless"]
    assert (warmup.pairs, warmup.alone) == (3, 1)
    assert warmup.effect is not None
    assert warmup.effect.value == pytest.approx(0.0)


def test_two_pairs_are_not_enough_evidence_however_clear():
    record = sweep([trial({"batch_size": b, "learning_rate": r}, float(b)) for b in (1, 2) for r in (0.1, 0.2)])
    low = answers(record)["a lower learning rate ends better"]
    assert (low.pairs, low.answer) == (2, "not enough evidence")


def test_nothing_is_said_of_axes_that_the_sweep_does_not_have():
    assert findings(sweep([trial({"adam_beta2": value}, value) for value in (0.9, 0.95, 0.99)])) == ()


def test_noise_that_hides_a_difference_is_not_enough_evidence():
    def loss(axes: dict[str, Any]) -> float:
        sign = 1 if axes["schedule"] == "cosine" else -1
        return 2.0 + 0.5 * sign * (axes["warmup_steps"] == 0) * (1 if axes["batch_size"] == 32 else -1)

    assert answers(full(loss))["warmup is needless"].answer == "not enough evidence"
