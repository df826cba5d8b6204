"""Measurements of what a stranger's trainer tells."""

from __future__ import annotations

import math

import pytest

from sweeper.core.derive import Derived
from sweeper.core.errors import InputError
from sweeper.core.measurement import StepPoint
from sweeper.core.milestones import Milestones
from sweeper.core.window import Window


def window(planned: int = 100, train_samples: int = 50, batch_size: int = 10) -> Window:
    derived = Derived(
        train_samples=train_samples, planned_samples=planned, total_steps=10, warmup_steps=3, warmup_origin="x"
    )
    return Window(Milestones.even(planned, 4), derived, batch_size)


def point(samples_seen: int, loss: float, grad_norm: float = 1.0) -> StepPoint:
    return StepPoint(
        step=math.ceil(samples_seen / 10),
        samples_seen=samples_seen,
        tokens_seen=2 * samples_seen,
        loss=loss,
        grad_norm=grad_norm,
        learning_rate=0.1,
        seconds=1.0,
    )


def test_means_are_weighted_by_samples_and_a_new_window_begins_at_each_milestone() -> None:
    found = window()
    for samples, loss in ((10, 4.0), (30, 1.0)):
        assert not found.is_due
        found.add(point(samples, loss))
    assert found.is_due
    found.add_scores({"heldout_loss": 2.0})
    first = found.measure(train_s=1.0)
    assert first.train_loss == pytest.approx((10 * 4 + 20 * 1) / 30)
    assert (first.milestone, first.warmup_done, first.is_last) == (1, False, False)
    assert first.scores == {"heldout_loss": 2.0}
    found.add(point(80, 0.5))
    second = found.measure(train_s=2.0)
    assert (second.milestone, second.train_loss, second.warmup_done) == (3, 0.5, True)
    assert second.scores == {}
    assert [p.samples_seen for p in second.series] == [80]


def test_non_finite_numbers_stay_in_the_means() -> None:
    found = window()
    found.add(point(10, math.nan))
    found.add(point(30, 1.0, math.inf))
    measured = found.measure(train_s=1.0)
    assert math.isnan(measured.train_loss)
    assert measured.grad_norm == math.inf


def test_the_last_milestone_waits_for_the_end_and_takes_later_scores() -> None:
    found = window()
    found.add(point(100, 1.0))
    assert not found.is_due
    found.add_scores({"heldout_loss": 3.0})
    last = found.measure(train_s=1.0, is_last=True)
    assert (last.milestone, last.is_last, last.scores) == (4, True, {"heldout_loss": 3.0})


def test_a_trainer_may_drop_the_last_batch_of_each_epoch_and_no_more() -> None:
    found = window()
    found.add(point(81, 1.0))
    assert found.measure(train_s=1.0, is_last=True).milestone == 4
    short = window()
    short.add(point(80, 1.0))
    with pytest.raises(InputError, match="ended after 80 of 100 planned"):
        short.measure(train_s=1.0, is_last=True)


def test_samples_that_go_backwards_or_past_the_plan_are_refused() -> None:
    found = window()
    found.add(point(50, 1.0))
    with pytest.raises(InputError, match="must rise"):
        found.add(point(50, 1.0))
    with pytest.raises(InputError, match="past the 100 samples planned"):
        found.add(point(121, 1.0))
