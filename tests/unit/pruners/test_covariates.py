from __future__ import annotations

import numpy as np
import pytest

from sweeper.pruners.covariates import signal_gaps, supported
from sweeper.pruners.path import Path, make_path
from sweeper.pruners.process import beats_by_process

FINALS = np.linspace(1.0, 2.0, 8)
NAN = float("nan")


def path(final: float | None, loss: float, *, name: str = "train_loss", length: int = 10) -> Path:
    """All objectives alike so far: only the signal can tell the trials apart."""
    values = [3.0] * (length - 1) + [3.0 if final is None else final]
    samples = list(range(1, length + 1))
    found = make_path(
        samples, values, final=final, cell=0, best_counts=True, signals={name: (samples, [loss] * length)}
    )
    assert found is not None
    return found


def test_a_signal_without_correlation_is_not_used():
    mixed = np.array([3.0, 8, 1, 6, 4, 7, 2, 5])
    assert not supported(mixed, FINALS, 1.0)


def test_the_papers_direction_needs_less_support_than_the_other():
    values = np.array([1.0, 4, 2, 8, 3, 5, 6, 7])  # rank correlation 0.64: 1.7 standard errors of none
    assert supported(values, FINALS, 1.0)
    assert not supported(values, FINALS, -1.0)
    assert not supported(values, FINALS, 0.0)


def test_finished_trials_overturn_the_paper():
    assert supported(FINALS, FINALS, -1.0)


def test_a_signal_that_one_trial_lacks_is_not_used():
    paths = [path(final, loss=final) for final in FINALS]
    assert signal_gaps([*paths, path(None, 1.5, length=5)], 5.0, FINALS) is not None
    assert signal_gaps([*paths, path(None, 1.5, name="grad_norm", length=5)], 5.0, FINALS) is None


def test_gaps_are_those_of_ranks_so_that_an_outlier_counts_once():
    paths = [path(final, loss=final) for final in FINALS]
    gaps = signal_gaps([*paths, path(None, 1e9, length=5)], 5.0, FINALS)
    assert gaps is not None
    assert gaps[-1, -2] == pytest.approx(1 / 81)
    assert np.array_equal(gaps, gaps.T)


def test_a_signal_that_tells_the_end_moves_the_forecast():
    peers = [path(final, loss=final) for final in FINALS]
    points = np.zeros((1, 1))

    def chance(loss: float) -> float:
        own = path(None, loss, length=5)
        forecast = beats_by_process(own, peers, points, best=1.0, unit=0.5)
        assert forecast is not None
        return forecast.below(1.2)

    assert chance(1.05) > 2 * chance(1.95)


def test_a_signal_is_cut_with_its_path_and_never_looks_ahead():
    samples = [1, 2, 3, 4]
    whole = make_path(
        samples, [4.0, 3, 2, 1], final=1.0, cell=0, best_counts=True, signals={"grad_norm": (samples, [1.0, NAN, 3, 9])}
    )
    assert whole is not None
    young = whole.until(3)
    assert young is not None
    assert young.signal_at("grad_norm", 4) == 3.0
    assert young.signal_at("grad_norm", 2) == 2.0
    assert np.isnan(young.signal_at("grad_norm", 0.5))
    assert np.isnan(young.signal_at("train_loss", 2))
