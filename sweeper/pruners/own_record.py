"""How far a forecaster may be believed, by what has happened in this sweep; pure, minimised.

Before a prune, the forecaster is asked about the best finished trials as they were at this age, the other trials being
as they are. Among ``n`` finished trials the most surprising one should have been given a chance of about
``1 / (n + 1)``. Where it was given less, the forecaster is too sure, and its chances are raised to a power below 1
under which that worst miss becomes ordinary.

Nor may it claim less than there is precedent for: trials that had come to rest at about this age, as this one has, and
then gained nearly all that this one lacks.

Nor can it tell of trials that nobody has seen the like of: where only front-runners have ended, what they gained says
nothing of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from sweeper.pruners.path import Path

Forecaster = Callable[[Path, Sequence[Path], float], float | None]
"""Takes a trial, its peers and a target; returns the probability of ending below it, None where it cannot tell."""
TESTED: Final = 2
"""Finished trials that it is tested on, the best ones: they are what it must not lose, and each costs a forecast."""
AGE_SHARE: Final = 0.5
"""Least age of a tested trial as a share of the judged one's: a curve reported more coarsely is known up to there."""

LIKE: Final = 2
"""Ended trials that make it known how such trials end: one is an anecdote. With 2, half of the losses in the made-up
world where early values foretell nothing are gone; 3 brought no fewer and saved less."""
NEARLY: Final = 0.8
"""Share of the lacking gain that makes a precedent: it came back, whether or not it then won."""
MOVED: Final = 0.1
"""Gain, as a share of the distance from best to median, below which a trial counts as not moving."""


def precedent(own: Path, peers: Sequence[Path], target: float, unit: float) -> float:
    """Return the least chance that precedents leave to the trial.

    The share of peers at rest, at this age or back to half of it, that came back, times the chance that such a trial,
    from then on one like all, beats every finished one. 0 where this trial is on the move or lacks no more than usual.
    """
    gained, rest, need = own.gain_before(own.now), MOVED * unit, own.value - target
    # A gain within the usual distance, or of a trial on the move, is what the forecasters count: this is for jumps.
    if gained is None or gained > rest or need <= unit:
        return 0.0
    alike = came_back = 0
    for peer in peers:
        gains = [_gain_after(peer, age, rest, own.value) for age in (0.5 * own.now, 0.7 * own.now, own.now)]
        seen = [gain for gain in gains if gain is not None]
        alike += bool(seen)
        came_back += any(gain >= NEARLY * need for gain in seen)
    num_finished = sum(peer.final is not None for peer in peers)
    return came_back / (alike + 1) / (num_finished + 1)


def _gain_after(peer: Path, age: float, rest: float, value: float) -> float | None:
    """Return what the peer gained after this age below ``value``; None where it was not at rest or not seen going on.

    What a diverged peer gains far above, by chance, is no precedent for a gain from here on.
    """
    before = peer.gain_before(age)
    if before is None or before > rest or peer.now <= age:
        return None
    return min(peer.at(age), value) - peer.end


def has_seen_the_like(own: Path, peers: Sequence[Path]) -> bool:
    """Return whether ``LIKE`` peers that stood in the worse half at this age, or no better than this, have ended."""
    there = [peer for peer in peers if peer.samples[0] <= own.now <= peer.now]
    if not there:
        return False
    values = [peer.at(own.now) for peer in there]
    low = min(float(np.median(values)), own.value)
    return sum(value >= low for peer, value in zip(there, values, strict=True) if peer.final is not None) >= LIKE


def trusted(chance: float, forecaster: Forecaster, own: Path, peers: Sequence[Path]) -> float:
    """Return the chance as far as the forecaster's own record supports it, never less than ``chance``."""
    finished = sorted((p for p in peers if p.final is not None), key=lambda p: p.final or 0.0)
    said = (_would_have_said(forecaster, peer, own, peers) for peer in finished[:TESTED])
    return tempered(chance, min(said, default=1.0), len(finished))


def tempered(chance: float, worst: float, num_finished: int) -> float:
    """Return the chance raised to the power under which ``worst``, the chance given to what did happen, is ordinary."""
    ordinary = 1 / (num_finished + 1)
    if worst >= ordinary or chance <= 0:
        return chance
    return float(chance ** (math.log(ordinary) / math.log(max(worst, 1e-300))))


def _would_have_said(forecaster: Forecaster, peer: Path, own: Path, peers: Sequence[Path]) -> float:
    """Return the chance that the forecaster gave to how this finished trial ended; 1 where it was no surprise."""
    young = peer.until(own.now)
    if young is None or peer.final is None or young.now < AGE_SHARE * own.now or peer.final >= young.value:
        return 1.0
    others = [other for other in peers if other is not peer]
    said = forecaster(young, [*others, own], peer.final)
    return 1.0 if said is None else said
