"""What a configuration alone says about where its trial ends, learned from the finished trials; pure, minimised.

It answers two questions about cells without a curve: what counts as a tie, being a share of the distance from the best
to the median of *all* trials and not of those that were let finish, and how likely another cell still beats the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import logsumexp, stdtr

from sweeper.pruners.forecast import MIN_TRIALS
from sweeper.pruners.own_record import TESTED
from sweeper.pruners.path import Floats
from sweeper.pruners.process import LENGTHS, PRIOR_DOF, TAIL_DOF, TEMPER, Forecast, warp

NOISES: Final = np.array((0.01, 0.1, 0.5))
"""Noise variances as shares of the signal's: two runs of one cell never end alike."""
MAX_KNOWN: Final = 64
"""Finished trials that are looked at, the better half by value and the rest spread evenly: 64 cost about 5 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finals:
    """Mixture of Student-t distributions of the final value, for every cell of the sweep."""

    weights: Floats
    """By process."""
    means: Floats
    """Shape (processes, cells), of ``log1p((value - low) / unit)``."""
    scales: Floats
    dof: float
    low: float
    unit: float

    def below(self, value: float, rows: Sequence[int]) -> Floats:
        """Return the probability, for each of these cells, that it ends below ``value``."""
        place = (warp(np.asarray(value), self.low, self.unit) - self.means[:, rows]) / self.scales[:, rows]
        shares: Floats = self.weights @ stdtr(self.dof, place)
        return shares

    def forecast(self, row: int) -> Forecast:
        """Return one cell's distribution of the final value."""
        means, scales = self.means[:, row], self.scales[:, row]
        return Forecast(weights=self.weights, means=means, scales=scales, dof=self.dof, low=self.low, unit=self.unit)

    def middles(self) -> Floats:
        """Return the mean forecast of every cell."""
        middles: Floats = self.low + self.unit * np.expm1(np.minimum(self.weights @ self.means, 50.0))
        return middles


def learn_finals(points: Floats, rows: Sequence[int], finals: Sequence[float]) -> Finals | None:
    """Return the forecast from configurations alone, None with fewer than ``MIN_TRIALS`` finished trials.

    Args:
        points: every cell's embedding, shape (cells, dimensions).
        rows: cells whose trials ran to their end.
        finals: how they ended, minimised.
    """
    if len(rows) < MIN_TRIALS:
        return None
    chosen = _spread(finals)
    known, values = np.asarray(rows)[chosen], np.asarray(finals, dtype=np.float64)[chosen]
    low = float(values.min())
    unit = max(float(np.median(values)) - low, 1e-9 * max(abs(low), 1.0))
    warped = warp(values, low, unit)
    distance = np.sum((points[known][:, None] - points[None]) ** 2, axis=2)
    found = [
        _process(np.exp(-0.5 * distance / length**2), known, warped, float(noise))
        for length in LENGTHS
        for noise in NOISES
    ]
    evidence = np.asarray([each[0] for each in found])
    return Finals(
        weights=np.exp(evidence - logsumexp(evidence)),
        means=np.stack([each[1] for each in found]),
        scales=np.stack([each[2] for each in found]),
        dof=min(len(known) - 1 + PRIOR_DOF, TAIL_DOF),
        low=low,
        unit=unit,
    )


def worst_miss(points: Floats, rows: Sequence[int], finals: Sequence[float]) -> float:
    """Return the least chance that configurations alone gave to how one of the best finished trials ended.

    Each of the ``TESTED`` best is forecast from the others. Arguments are as for ``learn_finals``; 1 where too few have
    finished to tell.
    """
    said = [1.0]
    for tested in np.argsort(finals, kind="stable")[:TESTED]:
        others = [place for place in range(len(rows)) if place != tested]
        learned = learn_finals(points, [rows[place] for place in others], [finals[place] for place in others])
        if learned is not None:
            said.append(float(learned.below(finals[tested], [rows[tested]])[0]))
    return min(said)


def chance_of_no_rival(beats: Floats, num_finished: int) -> float:
    """Return the probability that none of the others beats a trial that has beaten every finished one.

    Were all trials alike, the best of ``n`` finished ones and one more stays the best among ``m`` others with
    probability ``(n + 1) / (n + 1 + m)``. Others count by how their own chance of beating the finished ones compares
    with that of a trial like all, ``1 / (n + 1)``, at most once: taking their chances as independent instead would make
    a rival certain wherever many are waiting.
    """
    alike = num_finished + 1
    return float(alike / (alike + np.sum(np.minimum(beats * alike, 1.0))))


def median_final(values: Sequence[float]) -> float:
    """Return the lower median: the better of the two middle values; broken trials count as infinite."""
    return sorted(values)[(len(values) - 1) // 2] if values else math.nan


def _spread(finals: Sequence[float]) -> list[int]:
    order = [int(i) for i in np.argsort(finals, kind="stable")]
    if len(order) <= MAX_KNOWN:
        return sorted(order)
    half = MAX_KNOWN // 2
    rest = order[half:]
    return sorted(order[:half] + [rest[i] for i in np.linspace(0, len(rest) - 1, half).astype(int)])


def _process(kernel: Floats, known: Floats, values: Floats, noise: float) -> tuple[float, Floats, Floats]:
    """Return tempered log evidence, means and scales at every cell; ``kernel`` has shape (known, cells)."""
    count = len(values)
    root = np.linalg.cholesky(kernel[:, known] + noise * np.eye(count))
    solved = np.linalg.solve(root, np.concatenate([values[:, None], np.ones((count, 1)), kernel], axis=1))
    target, ones, ahead = solved[:, 0], solved[:, 1], solved[:, 2:]
    # Generalised least squares for an unknown mean: its flat prior is integrated out.
    weight = float(ones @ ones)
    mean = float(target @ ones) / weight
    residual = target - mean * ones
    squares = float(residual @ residual) + PRIOR_DOF * max(float(np.var(values)), 1e-8)
    dof = count - 1 + PRIOR_DOF
    variance = np.maximum(1 + noise - np.sum(ahead**2, axis=0) + (1 - ones @ ahead) ** 2 / weight, 1e-9)
    determinant = float(np.sum(np.log(np.diagonal(root))))
    evidence = TEMPER * (-determinant - 0.5 * math.log(weight) - 0.5 * dof * math.log(squares))
    return evidence, mean + ahead.T @ residual, np.sqrt(variance * squares / dof)
