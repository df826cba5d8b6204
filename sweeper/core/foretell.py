"""Do early signals foretell how a trial ends? Tested on the trials that ran to their end, never assumed.

For every signal and milestone: the rank correlation with ending well, its 95% interval, and what that says of the two
claims of arXiv 2412.13337 (a lower gradient norm and a higher loss, early on, go with a better final model). Pruned
trials have no end to compare with and are left out; as pruners end the worse ones, the correlation seen among the rest
is, if anything, too small.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Finding = Literal["holds", "does not hold", "not enough evidence"]
Direction = Literal["lower", "higher"]
Floats = npt.NDArray[np.float64]

MIN_TRIALS: Final = 6
"""Finished trials below which nothing is said: of fewer, not even a correlation of 0.9 can be told from none."""
CLAIMS: Final[Mapping[str, Direction]] = {"grad_norm": "lower", "train_loss": "higher"}
"""Which values of a signal go with a better final model, as the paper says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedTrial:
    """A trial that ran to its end, as much of it as is compared."""

    group: Hashable
    """What is held fixed for the correlation within groups: its batch size."""
    goodness: float
    """Its final objective, turned so that higher is better."""
    values: Mapping[str, Sequence[float | None]]
    """By signal, one value per milestone; None where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """A rank correlation of a signal with ending well: above 0 where higher values go with better ends."""

    value: float
    low: float
    """Lower end of the 95% interval."""
    high: float
    trials: int
    """Trials it rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the finished trials say of one signal at one milestone."""

    signal: str
    samples: int
    """The milestone."""
    trials: int
    """Finished trials that have a finite value there."""
    across: Correlation | None
    """Over all trials together, batch sizes mixed, as the paper compares; None where they are too few or all equal."""
    within: Correlation | None
    """Within a batch size, pooled: each one's own mean rank is taken out first. None where too few share one."""

    def finding(self, correlation: Correlation | None) -> Finding:
        """Say whether the paper's claim of this signal is borne out; KeyError for a signal it makes no claim of.

        It holds, or does not, where the whole interval lies on one side of 0.
        """
        sign = 1.0 if CLAIMS[self.signal] == "higher" else -1.0
        if correlation is None or correlation.low <= 0 <= correlation.high:
            return "not enough evidence"
        return "holds" if sign * correlation.value > 0 else "does not hold"


def evidence(trials: Sequence[FinishedTrial], milestones: Sequence[int]) -> tuple[Evidence, ...]:
    """Return what is known of every signal at every milestone, signals by name.

    NaN policy: a trial without a finite final value is left out, and at a milestone so is one without a finite value.
    """
    finite = [trial for trial in trials if math.isfinite(trial.goodness)]
    signals = sorted({name for trial in finite for name in trial.values})
    return tuple(_evidence(finite, name, place, at) for name in signals for place, at in enumerate(milestones))


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> Correlation | None:
    """Return Spearman's correlation, ties sharing their mean rank; None below ``MIN_TRIALS`` or where all are equal.

    The interval is Fisher's with the variance of Bonett and Wright, "Sample size requirements for estimating Pearson,
    Kendall and Spearman correlations" (2000): (1 + r^2 / 2) / (n - 3). A perfect order counts as half a swap of two
    neighbours short of it, as Fisher's transform has no value there.
    """
    return _correlation(ranks(left), ranks(right), lost=0)


def _evidence(trials: Sequence[FinishedTrial], signal: str, place: int, samples: int) -> Evidence:
    groups: list[Hashable] = []
    values, goodness = [], []
    for trial in trials:
        value = trial.values[signal][place] if signal in trial.values else None
        if value is not None and math.isfinite(value):
            groups.append(trial.group)
            values.append(value)
            goodness.append(trial.goodness)
    return Evidence(
        signal=signal,
        samples=samples,
        trials=len(values),
        across=rank_correlation(values, goodness),
        within=_within(groups, values, goodness),
    )


def _within(groups: Sequence[Hashable], values: Sequence[float], goodness: Sequence[float]) -> Correlation | None:
    sizes = Counter(groups)
    kept = [place for place, group in enumerate(groups) if sizes[group] > 1]
    shared = dict.fromkeys(groups[place] for place in kept)
    if len(sizes) < 2 or not kept:
        return None
    left, right = (ranks([numbers[place] for place in kept]) for numbers in (values, goodness))
    for group in shared:
        rows = np.asarray([groups[place] == group for place in kept])
        left[rows] -= left[rows].mean()
        right[rows] -= right[rows].mean()
    return _correlation(left, right, len(shared) - 1)


def _correlation(left: Floats, right: Floats, lost: int) -> Correlation | None:
    """Return the correlation of ranks, ``lost`` degrees of freedom having gone into means taken out."""
    count = len(left) - lost
    if count < MIN_TRIALS or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    value = float(np.corrcoef(left, right)[0, 1])
    most = 1 - 6 / (count * (count**2 - 1))
    centre = math.atanh(max(-most, min(most, value)))
    half_width = 1.959964 * math.sqrt((1 + value**2 / 2) / (count - 3))
    low, high = math.tanh(centre - half_width), math.tanh(centre + half_width)
    return Correlation(value=value, low=low, high=high, trials=len(left))


def ranks(values: Sequence[float] | Floats) -> Floats:
    """Return ranks from 1, ties sharing their mean rank; finite values only."""
    array = np.asarray(values, dtype=np.float64)
    ordered = np.sort(array)
    below, up_to = np.searchsorted(ordered, array, "left"), np.searchsorted(ordered, array, "right")
    return np.asarray((below + up_to + 1) / 2, dtype=np.float64)
