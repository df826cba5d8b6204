"""How likely a running trial is to end better than a target, by its stall or by its pace; pure, minimised.

Together with the Gaussian process of ``sweeper.pruners.process`` these look at the same trials from three sides. Each
returns a probability, or None where it has nothing to go by:

- ``beats_by_stall``: trials that had stalled for as long as this one, and how much they still gained;
- ``beats_by_pace``: how much trials gained from here on, measured by what they had gained just before.

Both speak once ``MIN_TRIALS`` trials have ended: what no trial has shown cannot be told, least of all a late turn for
the better. Both have power-law tails, so with few trials to learn from nothing is improbable enough to act on. The
constants are scales of prior ignorance, round values; what was compared on recorded curves is told in decision 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.special import stdtr

from sweeper.pruners.path import Path
from sweeper.pruners.process import TAIL_DOF

PRIOR_DOF: Final = 2.0
"""Pseudo-observations that hold the scatter of a gain near a factor e."""
MIDDLE_SLOPE: Final = 0.5
"""How far a trial's coming gain is expected to follow its last one: between not at all, as where a learning rate decays
and the gains come late to all, and in proportion."""
SLOPE_WEIGHT: Final = 4.0
"""Weight of that expectation: a standard error of one half, as far as to either end."""
STALL_AGES: Final = 2.0
"""Stalls up to twice as late tell of this one: those of trials that have landed tell nothing of an early one."""
LEAST_GAIN: Final = 0.1
"""Gain, as a share of the distance from best to median, that may come to any trial over one doubling of its samples:
one that has not gained lately may only be about to."""
MAX_SHAPE: Final = 2.0
"""Most degrees of the gains' distribution: small wavering, seen often, does not say how far off a fall may be."""
MIN_TRIALS: Final = 3
"""Trials that must have ended."""


def beats_by_stall(path: Path, peers: Sequence[Path], target: float, unit: float) -> float | None:
    """Return the probability of a gain down to ``target`` after a stall as long as this one; None without a stall.

    Each peer counts once, at its first stall of this share of its samples, unless that came at more than
    ``STALL_AGES`` times this trial's age; one that has not ended counts by how much it has seen of what was left.
    Whether a gain comes: a Beta posterior with Jeffreys' half success. How large: exponential with its scale integrated
    out (a Lomax tail), ``LEAST_GAIN`` of ``unit`` being the one prior gain.
    """
    lengths = [peer.now for peer in peers if peer.final is not None]
    if path.stall <= 0 or len(lengths) < MIN_TRIALS:
        return None
    usual = float(np.median(lengths))
    gains, watched = [], 0.0
    for peer in peers:
        stalled = np.nonzero((peer.samples - peer.gained_at) >= path.stall * peer.samples)[0]
        if len(stalled) and peer.samples[stalled[0]] <= STALL_AGES * path.now:
            first = int(stalled[0])
            was_left = max(usual - peer.samples[first], peer.samples[first])
            watched += 1.0 if peer.final is not None else min(1.0, (peer.now - peer.samples[first]) / was_left)
            gains.append(float(peer.values[first]) - peer.value)
    if watched < 2:
        return None
    real = [gain for gain in gains if gain > 0]
    comes = min(1.0, (len(real) + 0.5) / (watched + 1))
    scale = (sum(real) + LEAST_GAIN * unit) / (len(real) + 1)
    need = path.value - target
    shape = min(len(real) + 1.0, MAX_SHAPE)
    return float(comes * (1 + need / (shape * scale)) ** -(shape + 1))


def beats_by_pace(path: Path, peers: Sequence[Path], target: float, unit: float, planned: float | None) -> float | None:
    """Return the probability of a gain down to ``target``, by the pace of gains; None where too little was measured.

    Learning from peers that went on to their end or at least twice as far: the logarithm of what they gained from here
    on against that of what they had gained on the second half of the way to here, as a straight line of unknown level,
    slope and scatter. A trial whose pace is far from all of theirs is the less certain for it.
    """
    own, pairs = path.gain_before(path.now), _paces(path.now, peers)
    if own is None or len(pairs) < MIN_TRIALS or sum(peer.final is not None for peer in peers) < MIN_TRIALS:
        return None
    # Shortly before the planned end there is little time left for it.
    doublings_left = 1.0 if planned is None else min(1.0, max(math.log2(planned / path.now), 0.01))
    small = max(LEAST_GAIN * unit * doublings_left, _unrest(path, peers))
    before, after = np.log(np.maximum(np.asarray(pairs).T, 0.0) + small)
    here, wanted = math.log(max(own, 0.0) + small), math.log(path.value - target + small)
    dof = len(pairs) - 1 + PRIOR_DOF
    apart, residual = before - before.mean(), after - MIDDLE_SLOPE * before
    weight = apart @ apart + SLOPE_WEIGHT
    slope = apart @ residual / weight
    squares = np.sum((residual - residual.mean()) ** 2) - slope**2 * weight + PRIOR_DOF
    away = here - before.mean()
    expected = residual.mean() + MIDDLE_SLOPE * here + slope * away
    width = math.sqrt(squares / dof * (1 + 1 / len(pairs) + away**2 / weight))
    return float(stdtr(min(dof, TAIL_DOF), (expected - wanted) / width))


def _unrest(path: Path, peers: Sequence[Path]) -> float:
    """Return what a value may gain by chance: the root mean square step back, this trial's or the median peer's.

    One diverging peer makes steps of any size and tells nothing of the others.
    """
    usual = float(np.median([each.step_back for each in peers])) if peers else 0.0
    return max(path.step_back, usual)


def _paces(samples: float, peers: Sequence[Path]) -> list[tuple[float, float]]:
    """Return what each peer had gained just before ``samples`` and what it gained from there on."""
    found = []
    for peer in peers:
        if peer.final is None and peer.now < 2 * samples:
            continue
        before = peer.gain_before(samples)
        if before is not None:
            found.append((before, peer.at(samples) - peer.end))
    return found
