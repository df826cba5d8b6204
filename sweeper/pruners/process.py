"""A Gaussian process that forecasts where a running trial will end, learned from its sweep alone; pure, minimised.

It looks at the trials that got as far as this one and ended, or stalled. What it forecasts is not only the final value
itself but also what is left to gain: near the end of the training the second is known far better. Which of them to
trust, and how far trials resemble each other, is averaged by marginal likelihood.

All predictive distributions have power-law tails, so with few trials to learn from nothing is improbable enough to act
on. The constants are scales of prior ignorance on normalised axes (shares of an axis, of a spread, of a trial), round
values and not optima of recorded curves; what was compared on those is told in decision 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import logsumexp, stdtr

from sweeper.core.foretell import ranks
from sweeper.pruners.covariates import signal_gaps
from sweeper.pruners.path import Floats, Path, stands

LENGTHS: Final = np.array((0.15, 0.4, 1.0, 2.5))
"""Kernel lengths as shares of an axis, from "only close neighbours resemble" to "nearly linear"."""
NOISES: Final = np.array((0.0003, 0.003, 0.03, 0.3))
"""Noise variances as shares of the signal's."""
STANDING_WEIGHTS: Final = np.array((0.0, 2.0))
"""How much standing and phase count against configuration in the kernel's distance: not at all, or twice an axis."""
SIGNAL_WEIGHT: Final = 2.0
"""How much a training signal counts where it counts at all: as much as standing."""
CARRY: Final = np.array((0.0, 0.5, 1.0, 1.0))
"""Share of the present value that is carried into the final one: none, half, all of it."""
PACED: Final = np.array((0.0, 0.0, 0.0, 1.0))
"""Whether what is left is measured in gains over the second half of the way to here: trials that fall fast have more
left than those that have landed, and are less certain."""
LEAST_PACE: Final = 0.03
"""Added to every pace, as a share of the distance from best to median: gains smaller than a tie are noise."""
LEAST_VARIANCE: Final = 1e-8
"""Where all trials end alike, as with an accuracy of 0, there is no spread to start from."""
PRIOR_DOF: Final = 2.0
"""Pseudo-observations that hold the residual variance near the spread of what is forecast."""
TAIL_DOF: Final = 4.0
"""Most degrees of freedom in a forecast, the robust choice of Lange, Little and Taylor, "Robust statistical modeling
using the t distribution" (1989): ten finals that lie close together do not say how far off the odd one will be. With
more, sweeps whose trials stop at a common target lost the few that went past it."""
PHASE_WEIGHT: Final = 4.0
"""Squared weight of phase against standing: a trial still in full descent resembles no trial that has landed."""
TEMPER: Final = 0.25
"""Power of the evidence in the weights: no process is the true one, and the full power picks one too soon (Gruenwald
and van Ommen, "Inconsistency of Bayesian inference for misspecified linear models", 2017)."""
QUANTILE_PARTS: Final = 16
"""Heaviest processes that the shown interval is made of; the decision itself uses all."""
MIN_FINISHED: Final = 6
"""Finished trials before the process speaks: the spread of fewer says little, least of all where several tie."""
MAX_TRIALS: Final = 48
"""Nearest trials that the process looks at; 48 keep a decision at about 10 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """A mixture of Student-t distributions of the final value."""

    weights: Floats
    means: Floats
    scales: Floats
    dof: float
    low: float
    unit: float
    """The values are ``log1p((value - low) / unit)``."""

    def below(self, target: float) -> float:
        """Return the probability that the final value lies below ``target``."""
        place = (warp(np.asarray(target), self.low, self.unit) - self.means) / self.scales
        return float(np.sum(self.weights * stdtr(self.dof, place)))

    def quantiles(self, shares: Sequence[float] = (0.05, 0.5, 0.95)) -> tuple[float, ...]:
        """Return the final values below which these shares of the distribution lie."""
        heavy = np.argsort(self.weights, axis=None)[-QUANTILE_PARTS:]
        weights, means, scales = (part.ravel()[heavy] for part in (self.weights, self.means, self.scales))
        grid = np.linspace((means - 12 * scales).min(), (means + 12 * scales).max(), 128)
        share = stdtr(self.dof, (grid[:, None] - means) / scales) @ (weights / weights.sum())
        found = np.interp(shares, share, grid)
        return tuple(float(self.low + self.unit * np.expm1(min(value, 50.0))) for value in found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """The trials that are learned from and, last in each array of n + 1, the one that is forecast; warped values."""

    ends: Floats
    """Where the n known trials ended."""
    doubt: Floats
    """Additional noise variance of the n known trials: above 0 where the end is only believed."""
    here: Floats
    pace: Floats
    """What each gained over the second half of the way to here, and ``LEAST_PACE``."""


def beats_by_process(path: Path, peers: Sequence[Path], points: Floats, *, best: float, unit: float) -> Forecast | None:
    """Return the forecast of this trial's final value, or None with fewer than ``MIN_FINISHED`` finished trials.

    Learned from peers that got as far as this trial: those that ended, and those that have stalled, whose value stands
    in with some noise. Inputs: configuration (``points``, rows by ``cell``), standing (rank of the value here), phase
    (rank of the gain over the last fifth of the way) and the signals that the sweep supports. Forecast is the final
    value, or what is left of the present one, or that in terms of the pace. A grid of kernel lengths, noises, weights
    of standing and signals and of what is forecast is averaged by tempered marginal likelihood, mean and variance being
    integrated out.
    """
    known = [p for p in peers if p.now >= path.now and p.samples[0] <= path.now and stands(p)]
    if sum(p.final is not None for p in known) < MIN_FINISHED:
        return None
    if len(known) > MAX_TRIALS:
        gaps = np.linalg.norm(points[[p.cell for p in known]] - points[path.cell], axis=1)
        known = [known[i] for i in np.argsort(gaps, kind="stable")[:MAX_TRIALS]]
    ends = np.asarray([p.end for p in known])
    low = min(best, float(ends.min()))
    everyone = [*known, path]
    then, recent, here = (np.asarray([p.at(share * path.now) for p in everyone]) for share in (0.5, 0.8, 1.0))
    present = warp(here, low, unit)
    seen = _Known(
        ends=warp(ends, low, unit),
        doubt=np.asarray([0.1 if p.final is None else 0.0 for p in known]),
        here=present,
        pace=np.abs(warp(then, low, unit) - present) + LEAST_PACE,
    )
    standing = _rank_gaps(here) + PHASE_WEIGHT * _rank_gaps(np.round(warp(recent, low, unit) - present, 12))
    distance = _distances(points[[p.cell for p in everyone]], standing, signal_gaps(everyone, path.now, ends))
    return _mixture(distance, seen, low, unit)


def warp(values: Floats, low: float, unit: float) -> Floats:
    """Return values on a scale that is linear near the best and logarithmic far from it: outliers do not dominate."""
    warped: Floats = np.log1p(np.maximum(values - low, -0.9 * unit) / unit)
    return warped


def _rank_gaps(values: Floats) -> Floats:
    place = ranks(values) / len(values)
    gaps: Floats = (place[:, None] - place[None]) ** 2
    return gaps


def _distances(cells: Floats, standing: Floats, signals: Floats | None) -> Floats:
    """Return squared distances, shape (kernels, trials + 1, trials + 1)."""
    apart = np.sum((cells[:, None] - cells[None]) ** 2, axis=2)
    weighted = apart[None] + STANDING_WEIGHTS[:, None, None] ** 2 * standing
    if signals is not None:
        weighted = np.concatenate([weighted, weighted + SIGNAL_WEIGHT**2 * signals])
    distances: Floats = (weighted[:, None] / LENGTHS[:, None, None] ** 2).reshape(-1, *apart.shape)
    return distances


def _mixture(distance: Floats, known: _Known, low: float, unit: float) -> Forecast:
    """Return the averaged processes."""
    count = len(known.ends)
    kernels = np.repeat(np.exp(-0.5 * distance), len(NOISES), axis=0)
    noise = np.tile(NOISES, len(distance))
    covariance, cross = kernels[:, :count, :count].copy(), kernels[:, count, :count]
    diagonal = np.arange(count)
    covariance[:, diagonal, diagonal] += noise[:, None] + known.doubt
    root = np.linalg.cholesky(covariance)
    measure = known.pace[:, None] ** PACED
    forecast = (known.ends[:, None] - CARRY * known.here[:count, None]) / measure[:count]
    columns = np.concatenate(
        [np.broadcast_to(forecast, (len(cross), *forecast.shape)), np.ones((*cross.shape, 1)), cross[:, :, None]],
        axis=2,
    )
    solved = np.linalg.solve(root, columns)
    targets, ones, ahead = solved[:, :, :-2], solved[:, :, -2], solved[:, :, -1]
    # Generalised least squares for an unknown mean: its flat prior is integrated out.
    weight = np.sum(ones**2, axis=1)
    mean = np.einsum("htc,ht->hc", targets, ones) / weight[:, None]
    residual = targets - mean[:, None, :] * ones[:, :, None]
    prior = PRIOR_DOF * _ignorance(forecast, float(known.pace[count]))
    squares = np.sum(residual**2, axis=1) + prior
    dof = count - 1 + PRIOR_DOF
    centre = mean + np.einsum("ht,htc->hc", ahead, residual)
    shrink = (1 - np.sum(ones * ahead, axis=1)) ** 2 / weight
    variance = np.maximum(1 + noise - np.sum(ahead**2, axis=1) + shrink, 1e-9)
    determinant = np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)
    fit = 0.5 * PRIOR_DOF * np.log(prior) - 0.5 * dof * np.log(squares) - np.sum(np.log(measure[:count]), axis=0)
    evidence = TEMPER * ((-determinant - 0.5 * np.log(weight))[:, None] + fit)
    return Forecast(
        weights=np.exp(evidence - logsumexp(evidence)),
        means=centre * measure[count] + CARRY * known.here[count],
        scales=np.sqrt(variance[:, None] * squares / dof) * measure[count],
        dof=min(dof, TAIL_DOF),
        low=low,
        unit=unit,
    )


def _ignorance(forecast: Floats, pace: float) -> Floats:
    """Return the variance of what is forecast before anything is learned: shape (what is forecast,).

    The spread of what is forecast, and never less than this trial's own pace: where all others have landed they say
    nothing of how much a trial that still falls may gain. In terms of the pace itself: the pace again.
    """
    spread = np.maximum(np.var(forecast, axis=0), LEAST_VARIANCE)
    return np.where(PACED > 0, 1.0, np.maximum(spread, (CARRY * pace) ** 2))
