"""Rank statistics that the pruners share; pure, on finite numbers only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeper.core.foretell import ranks


def badness(value: float, peers: Sequence[float], *, higher_is_better: bool) -> float:
    """Return the share of ``peers`` that stand better than ``value``, ties counting half; peers must not be empty."""
    theirs = np.asarray(peers)
    better = np.sum(theirs > value) if higher_is_better else np.sum(theirs < value)
    return float((better + 0.5 * np.sum(theirs == value)) / len(theirs))


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Spearman's rank correlation, 0 where fewer than 3 pairs or a constant side leave it undefined."""
    if len(pairs) < 3:
        return 0.0
    left, right = ranks([a for a, _ in pairs]), ranks([b for _, b in pairs])
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
