"""What runs with fresh seeds say about the order of the leaders.

All leaders run with the same fresh seeds, so that a seed's luck with the order of data falls out of every difference:
seeds are blocks. The noise is what is left of the scores after each leader's mean and each seed's mean are taken off,
pooled over all leaders (a randomised complete block design; with two leaders it is the paired t test). The run that
made a leader of one of many is left out: it was partly the luckiest.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy.special import stdtrit

from sweeper.core.confirmation import Confirmation, Rival
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import TrialRow
from sweeper.core.standings import Standing, standings

LEAST_SEEDS = 2
"""Seeds in common below which nothing is said of a pair."""

Scores = Mapping[int, float]
"""Final objectives of one leader by fresh seed."""


def confirmation(rows: Sequence[TrialRow], *, maximize: bool) -> Confirmation | None:
    """Return what the runs with fresh seeds among ``rows`` say; None where there are none.

    The intervals are 95% for each pair on its own.
    """
    fresh = [row for row in rows if row.replicate_of]
    grid = [row for row in rows if not row.replicate_of]
    repeated = {row.replicate_of for row in fresh}
    leaders = [each for each in standings(grid, maximize=maximize) if grid[each.place].fingerprint in repeated]
    if not leaders:
        return None
    scores = [_scores(fresh, grid[each.place].fingerprint) for each in leaders]
    own = list(scores[0].values())
    return Confirmation(
        first=leaders[0].name,
        score=statistics.fmean(own) if own else None,
        half_width=_t(len(own) - 1) * statistics.stdev(own) / math.sqrt(len(own)) if len(own) > 1 else None,
        runs=len(own),
        rivals=_rivals(leaders, scores, maximize=maximize),
        unfinished=sum(not TrialState(row.state).is_final for row in fresh),
        lost=tuple(row.name for row in fresh if row.state in (TrialState.FAIL, TrialState.PRUNED)),
    )


def _rivals(leaders: Sequence[Standing], scores: Sequence[Scores], *, maximize: bool) -> tuple[Rival, ...]:
    sign = 1.0 if maximize else -1.0
    pooled = _residual(scores)
    found = []
    for leader, theirs in list(zip(leaders, scores, strict=True))[1:]:
        common = sorted(set(scores[0]) & set(theirs))
        if len(common) < LEAST_SEEDS:
            continue
        noise = pooled or _residual([scores[0], theirs])
        assert noise is not None
        deviation, freedom = noise
        found.append(
            Rival(
                name=leader.name,
                score=statistics.fmean(theirs.values()),
                lead=sign * statistics.fmean(scores[0][seed] - theirs[seed] for seed in common),
                half_width=_t(freedom) * deviation * math.sqrt(2 / len(common)),
                seeds=len(common),
            )
        )
    return tuple(sorted(found, key=lambda rival: rival.lead))


def _residual(scores: Sequence[Scores]) -> tuple[float, int] | None:
    """Return the standard deviation of the noise and its degrees of freedom, from the seeds that all finished.

    None with fewer than two such seeds.
    """
    common = sorted(set.intersection(*(set(each) for each in scores)))
    if len(common) < LEAST_SEEDS or len(scores) < 2:
        return None
    of_leader = [statistics.fmean(each[seed] for seed in common) for each in scores]
    of_seed = {seed: statistics.fmean(each[seed] for each in scores) for seed in common}
    overall = statistics.fmean(of_leader)
    squares = sum(
        (each[seed] - mean - of_seed[seed] + overall) ** 2
        for each, mean in zip(scores, of_leader, strict=True)
        for seed in common
    )
    freedom = (len(scores) - 1) * (len(common) - 1)
    return math.sqrt(squares / freedom), freedom


def _scores(fresh: Sequence[TrialRow], fingerprint: str) -> dict[int, float]:
    done = [row for row in fresh if row.replicate_of == fingerprint and row.state == TrialState.COMPLETE]
    return {row.seed: row.objective for row in done if row.seed is not None and row.objective is not None}


def _t(freedom: int) -> float:
    """Return how many standard errors make half a 95% interval (Student's t)."""
    return float(stdtrit(freedom, 0.975))
