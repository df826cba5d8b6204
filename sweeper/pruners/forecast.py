"""How likely a running trial is to end better than a target, judged from its sweep alone; pure.

Everything here is minimised: a caller turns the sign of an objective that is maximised. Three forecasters look at the
same trials from different sides, and each returns a probability or None where it has nothing to go by:

- ``beats_by_stall``: trials that had stalled for as long as this one, and how much they still gained;
- ``beats_by_pace``: how much trials gained from here on, measured by what they had gained just before;
- ``beats_by_process``: a Gaussian process over configuration, standing and phase that forecasts the final value.

All predictive distributions have power-law tails, so with few trials to learn from nothing is improbable enough to act
on. The constants are scales of prior ignorance on normalised axes (shares of an axis, of a spread, of a trial); none
was fitted to recorded curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import logsumexp, stdtr

from sweeper.core.foretell import ranks
from sweeper.pruners.covariates import signal_gaps
from sweeper.pruners.path import Floats, Path

LENGTHS: Final = np.array((0.15, 0.4, 1.0, 2.5))
"""Kernel lengths as shares of an axis, from "only close neighbours resemble" to "nearly linear"."""
NOISES: Final = np.array((0.0003, 0.003, 0.03, 0.3))
"""Noise variances as shares of the signal's."""
STANDING_WEIGHTS: Final = np.array((0.0, 2.0))
"""How much standing and phase count against configuration in the kernel's distance: not at all, or twice an axis."""
SIGNAL_WEIGHT: Final = 2.0
"""How much a training signal counts where it counts at all: as much as standing."""
CARRY: Final = np.array((0.0, 0.5, 1.0))
"""Share of the present value that is carried into the final one: none, half, all of it."""
PRIOR_DOF: Final = 2.0
"""Pseudo-observations that hold the residual variance near the spread of the final values."""
TAIL_DOF: Final = 4.0
"""Most degrees of freedom in a forecast of final values, the robust choice of Lange, Little and Taylor, "Robust
statistical modeling using the t distribution" (1989): ten finals that lie close together do not say how far off the odd
one will be. With more, sweeps whose trials stop at a common target lost the few that went past it."""
SLOPES: Final = np.array((0.0, 0.5, 1.0))
"""How far a trial's coming gain follows its last one: not at all, as its square root, in proportion. Where a learning
rate decays, the gains come late to all, and to those that had gained least as well."""
STALL_AGES: Final = 2.0
"""Stalls up to twice as late tell of this one: those of trials that have landed tell nothing of an early one."""
PHASE_WEIGHT: Final = 4.0
"""Squared weight of phase against standing: a trial still in full descent resembles no trial that has landed."""
TEMPER: Final = 0.25
"""Power of the evidence in the weights: no process is the true one, and the full power picks one too soon (Gruenwald
and van Ommen, "Inconsistency of Bayesian inference for misspecified linear models", 2017)."""
STALL_MEMORY: Final = 0.1
"""Share of its samples without a gain after which a trial's best so far stands in for its final value."""
QUANTILE_PARTS: Final = 16
"""Heaviest processes that the shown interval is made of; the decision itself uses all."""
MIN_FINISHED: Final = 6
"""Finished trials before the process speaks: the spread of fewer says little, least of all where several tie."""
STALL_REPORTS: Final = 4
"""Fewest reports of such a trial: one that has just begun has not stalled, whatever its first values were."""
LEAST_GAIN: Final = 0.1
"""Gain, as a share of the distance from best to median, that may come to any trial: one that has not gained lately may
only be about to."""
MIN_TRIALS: Final = 3
MAX_TRIALS: Final = 48
"""Nearest trials that the process looks at; 48 keep a decision at about 10 ms."""


def beats_by_stall(path: Path, peers: Sequence[Path], target: float, unit: float) -> float | None:
    """Return the probability of a gain down to ``target`` after a stall as long as this one; None without a stall.

    Each peer counts once, at its first stall of this share of its samples, unless that came at more than
    ``STALL_AGES`` times this trial's age; one that has not gone twice as far since counts in part. Whether a gain
    comes: a Beta posterior with Jeffreys' half success. How large: exponential with its scale integrated out (a Lomax
    tail), ``LEAST_GAIN`` of ``unit`` being the one prior gain.
    """
    if path.stall <= 0:
        return None
    gains, watched = [], 0.0
    for peer in peers:
        stalled = np.nonzero((peer.samples - peer.gained_at) >= path.stall * peer.samples)[0]
        if len(stalled) and peer.samples[stalled[0]] <= STALL_AGES * path.now:
            first = int(stalled[0])
            seen_on = (peer.now - peer.samples[first]) / peer.samples[first]
            watched += 1.0 if peer.final is not None else min(1.0, float(seen_on))
            gains.append(float(peer.values[first]) - peer.value)
    if watched < 2:
        return None
    real = [gain for gain in gains if gain > 0]
    comes = min(1.0, (len(real) + 0.5) / (watched + 1))
    scale = (sum(real) + LEAST_GAIN * unit) / (len(real) + 1)
    need = path.value - target
    return float(comes * (1 + need / ((len(real) + 1) * scale)) ** -(len(real) + 2))


def beats_by_pace(path: Path, peers: Sequence[Path], target: float, unit: float, planned: float | None) -> float | None:
    """Return the probability of a gain down to ``target``, by the pace of gains; None where too little was measured.

    Learning from peers that went on to their end or at least twice as far: the logarithm of what they gained from here
    on against that of what they had gained on the second half of the way to here, as a straight line of unknown level
    and scatter, averaged over ``SLOPES`` by marginal likelihood. Where too few went that far but ``planned`` tells the
    end, the same from one doubling of the samples to the next, as far as each peer has come, and as many doublings as
    are left.
    """
    own = path.gain_before(path.now)
    if own is None:
        return None
    small = max(LEAST_GAIN * unit, _unrest([*peers, path]))
    pairs, doublings = _paces(path.now, peers), 1.0
    if len(pairs) < MIN_TRIALS:
        if planned is None or planned <= path.now:
            return None
        pairs, doublings = _doublings(peers), max(1.0, math.log2(planned / path.now))
    if len(pairs) < MIN_TRIALS:
        return None
    before, after = np.log(np.maximum(np.asarray(pairs).T, 0.0) + small)
    here, wanted = math.log(max(own, 0.0) + small), math.log((path.value - target + small) / doublings)
    dof = len(pairs) - 1 + PRIOR_DOF
    residual = after - SLOPES[:, None] * before
    middle = residual.mean(axis=1)
    squares = np.sum((residual - middle[:, None]) ** 2, axis=1) + PRIOR_DOF
    evidence = -0.5 * dof * np.log(squares)
    width = np.sqrt(squares / dof * doublings * (1 + 1 / len(pairs)))
    chances = stdtr(dof, (middle + SLOPES * here - wanted) / width)
    return float(np.exp(evidence - logsumexp(evidence)) @ chances)


def _unrest(paths: Sequence[Path]) -> float:
    """Return the root mean square of all steps back: what a value may gain by chance; 0 where the best counts."""
    steps = np.concatenate([np.diff(each.values) for each in paths])
    back = steps[steps > 0]
    return float(np.sqrt(np.mean(back**2))) if len(back) else 0.0


def _paces(samples: float, peers: Sequence[Path]) -> list[tuple[float, float]]:
    """Return what each peer had gained just before ``samples`` and what it gained from there on."""
    found = []
    for peer in peers:
        if peer.final is None and peer.now < 2 * samples:
            continue
        before = peer.gain_before(samples)
        if before is not None:
            after = peer.at(samples) - (peer.value if peer.final is None else min(peer.final, peer.value))
            found.append((before, after))
    return found


def _doublings(peers: Sequence[Path]) -> list[tuple[float, float]]:
    """Return what each peer gained over the last half of its way before the latest doubling, and over that doubling."""
    found = []
    for peer in peers:
        before, after = peer.gain_before(peer.now / 2), peer.gain_before(peer.now)
        if before is not None and after is not None:
            found.append((before, after))
    return found


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


def beats_by_process(path: Path, peers: Sequence[Path], points: Floats, *, best: float, unit: float) -> Forecast | None:
    """Return the forecast of this trial's final value, or None with fewer than ``MIN_FINISHED`` finished trials.

    Learned from peers that got as far as this trial: those that ended, and those that have stalled, whose value stands
    in with some noise. Inputs: configuration (``points``, rows by ``cell``), standing (rank of the value here), phase
    (rank of the gain over the last fifth of the way) and the signals that the sweep supports. A grid of kernel lengths,
    noises, weights of standing and signals and shares of the present value carried over is averaged by tempered
    marginal likelihood, mean and variance being integrated out.
    """
    known = [p for p in peers if p.now >= path.now and p.samples[0] <= path.now and stands(p)]
    if sum(p.final is not None for p in known) < MIN_FINISHED:
        return None
    if len(known) > MAX_TRIALS:
        gaps = np.linalg.norm(points[[p.cell for p in known]] - points[path.cell], axis=1)
        known = [known[i] for i in np.argsort(gaps, kind="stable")[:MAX_TRIALS]]
    finals = np.asarray([p.value if p.final is None else p.final for p in known])
    extra = np.asarray([0.1 if p.final is None else 0.0 for p in known])
    everyone = [*known, path]
    here = np.asarray([p.at(path.now) for p in everyone])
    low = min(best, float(finals.min()))
    present = warp(here, low, unit)
    gained = warp(np.asarray([p.at(0.8 * path.now) for p in everyone]), low, unit) - present
    cells = points[[p.cell for p in everyone]]
    apart = np.sum((cells[:, None] - cells[None]) ** 2, axis=2)
    standing = _rank_gaps(here) + PHASE_WEIGHT * _rank_gaps(np.round(gained, 12))
    weighted = apart[None] + STANDING_WEIGHTS[:, None, None] ** 2 * standing
    signals = signal_gaps(everyone, path.now, finals)
    if signals is not None:
        weighted = np.concatenate([weighted, weighted + SIGNAL_WEIGHT**2 * signals])
    distance = (weighted[:, None] / LENGTHS[:, None, None] ** 2).reshape(-1, len(everyone), len(everyone))
    return _mixture(distance, warp(finals, low, unit), present, extra, low, unit)


def stands(peer: Path) -> bool:
    """Return whether the trial's value stands for its final one: it has ended, or stalled for long."""
    return peer.final is not None or (peer.stall >= STALL_MEMORY and len(peer.samples) >= STALL_REPORTS)


def warp(values: Floats, low: float, unit: float) -> Floats:
    """Return values on a scale that is linear near the best and logarithmic far from it: outliers do not dominate."""
    warped: Floats = np.log1p(np.maximum(values - low, -0.9 * unit) / unit)
    return warped


def _rank_gaps(values: Floats) -> Floats:
    place = ranks(values) / len(values)
    gaps: Floats = (place[:, None] - place[None]) ** 2
    return gaps


def _mixture(distance: Floats, finals: Floats, present: Floats, extra: Floats, low: float, unit: float) -> Forecast:
    """Return the averaged processes; ``distance`` has shape (kernels, trials + 1, trials + 1), the last row ours."""
    count = len(finals)
    kernels = np.repeat(np.exp(-0.5 * distance), len(NOISES), axis=0)
    noise = np.tile(NOISES, len(distance))
    covariance, cross = kernels[:, :count, :count].copy(), kernels[:, count, :count]
    diagonal = np.arange(count)
    covariance[:, diagonal, diagonal] += noise[:, None] + extra
    root = np.linalg.cholesky(covariance)
    carried = finals[:, None] - CARRY * present[:count, None]
    columns = np.concatenate(
        [np.broadcast_to(carried, (len(cross), *carried.shape)), np.ones((*cross.shape, 1)), cross[:, :, None]], axis=2
    )
    solved = np.linalg.solve(root, columns)
    targets, ones, ahead = solved[:, :, :-2], solved[:, :, -2], solved[:, :, -1]
    # Generalised least squares for an unknown mean: its flat prior is integrated out.
    weight = np.sum(ones**2, axis=1)
    mean = np.einsum("htc,ht->hc", targets, ones) / weight[:, None]
    residual = targets - mean[:, None, :] * ones[:, :, None]
    spread = max(float(np.var(finals)), 1e-8)
    squares = np.sum(residual**2, axis=1) + PRIOR_DOF * spread
    dof = count - 1 + PRIOR_DOF
    centre = mean + np.einsum("ht,htc->hc", ahead, residual) + CARRY * present[count]
    shrink = (1 - np.sum(ones * ahead, axis=1)) ** 2 / weight
    variance = np.maximum(1 + noise - np.sum(ahead**2, axis=1) + shrink, 1e-9)
    determinant = np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)
    evidence = TEMPER * ((-determinant - 0.5 * np.log(weight))[:, None] - 0.5 * dof * np.log(squares))
    weights = np.exp(evidence - logsumexp(evidence))
    scales = np.sqrt(variance[:, None] * squares / dof)
    return Forecast(weights=weights, means=centre, scales=scales, dof=min(dof, TAIL_DOF), low=low, unit=unit)
