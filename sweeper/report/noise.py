"""Is the first really first? The winner's lead next to the noise, as far as the record knows it.

Where the space has a seed axis, repeated runs tell the noise of training. Where the objective is a share of right
answers out of a known number of questions, its standard error tells the noise of the test. Else nothing does.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from scipy.special import stdtrit

from sweeper.core.space import cell_name
from sweeper.report.record import ReportedTrial, SweepRecord

Kind = Literal["seeds", "seeds and test size", "test size", "unknown"]
Answer = Literal["ahead", "within noise", "not known", "no runner-up"]
SHARES: Final = ("exact_match", "answer_match")
"""Objectives that are shares of right answers on the sets of ``data.test``."""
SHOWN: Final = 5
Z: Final = 1.959964
"""Standard errors in half a 95% interval of a normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One setting among the leaders."""

    name: str
    key: str
    """``ReportedTrial.setting_key`` of its runs."""
    axes: Mapping[str, Any]
    """Its axis values, without the seed where it was repeated."""
    score: float
    """Mean over its repetitions."""
    runs: int
    error: float | None
    """Standard error of ``score``; None where it is not known."""
    lead: float
    """How far the first lies ahead of it; 0 for the first itself."""
    half_width: float | None
    """Half the 95% interval of that lead; None where it is not known, and for the first."""

    @property
    def is_within_noise(self) -> bool | None:
        """Return whether the first may not be better than this one; None where the noise is not known."""
        return None if self.half_width is None else self.lead <= self.half_width


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """The leaders, first to last, and what their order rests on."""

    kind: Kind
    contenders: tuple[Contender, ...]
    total: int
    """Settings with a finished trial."""

    @property
    def answer(self) -> Answer:
        """Say whether the first lies ahead of the second by more than noise."""
        if len(self.contenders) < 2:
            return "no runner-up"
        within = self.contenders[1].is_within_noise
        if within is None:
            return "not known"
        return "within noise" if within else "ahead"


def contest(record: SweepRecord) -> Contest:
    """Return the leading settings, repetitions of one taken together, with the noise of each lead.

    The 95% intervals are for each pair on its own: the best of many is partly the luckiest, which they do not count.
    """
    groups: dict[str, list[ReportedTrial]] = {}
    for trial in record.ranked():
        groups.setdefault(trial.setting_key, []).append(trial)
    sign = -1.0 if record.maximize else 1.0
    # As in ``sweeper.core.standings``: fresh seeds stand for themselves, and before what was never run again.
    fresh = [[trial for trial in group if trial.row.replicate_of] or group for group in groups.values()]
    ordered = sorted(fresh, key=lambda group: (not group[0].row.replicate_of, sign * _mean(group)))
    errors = _share_errors(ordered, record)
    spread = _pooled_spread(ordered)
    if spread is not None:
        return _by_seeds(ordered, spread, errors)
    if errors:
        return _by_test_size(ordered, errors)
    return Contest(kind="unknown", contenders=_contenders(ordered, {}, {}), total=len(ordered))


def _by_seeds(
    ordered: Sequence[Sequence[ReportedTrial]], spread: tuple[float, int], errors: Mapping[str, float]
) -> Contest:
    """Compare means of repetitions with one spread for all settings, pooled (Student's t for equal variances).

    All runs answer the same test, whose own error no repetition takes away: where it is known, it is added.
    """
    deviation, freedom = spread
    t = float(stdtrit(freedom, 0.975))
    seeds = {_key(group): deviation / math.sqrt(len(group)) for group in ordered}
    first = _key(ordered[0])
    both = {key: math.hypot(own, errors.get(key, 0.0)) for key, own in seeds.items()}
    widths = {
        key: math.hypot(t * math.hypot(own, seeds[first]), Z * math.hypot(errors.get(key, 0.0), errors.get(first, 0.0)))
        for key, own in seeds.items()
    }
    kind: Kind = "seeds and test size" if errors else "seeds"
    return Contest(kind=kind, contenders=_contenders(ordered, both, widths), total=len(ordered))


def _by_test_size(ordered: Sequence[Sequence[ReportedTrial]], errors: Mapping[str, float]) -> Contest:
    """Compare shares as if each trial had answered questions of its own, which is the more careful assumption."""
    first = errors[_key(ordered[0])]
    widths = {key: Z * math.hypot(error, first) for key, error in errors.items()}
    return Contest(kind="test size", contenders=_contenders(ordered, errors, widths), total=len(ordered))


def _contenders(
    ordered: Sequence[Sequence[ReportedTrial]], errors: Mapping[str, float], widths: Mapping[str, float]
) -> tuple[Contender, ...]:
    return tuple(
        Contender(
            name=_name(group),
            key=group[0].setting_key,
            axes=group[0].setting if len(group) > 1 or group[0].row.replicate_of else group[0].row.axes,
            score=_mean(group),
            runs=len(group),
            error=errors.get(_key(group)),
            lead=abs(_mean(ordered[0]) - _mean(group)),
            half_width=widths.get(_key(group)) if place else None,
        )
        for place, group in enumerate(ordered[:SHOWN])
    )


def _name(group: Sequence[ReportedTrial]) -> str:
    is_single = len(group) == 1 and not group[0].row.replicate_of
    return group[0].row.name if is_single else cell_name(group[0].setting) or group[0].row.name


def _key(group: Sequence[ReportedTrial]) -> str:
    return group[0].row.fingerprint


def _mean(group: Sequence[ReportedTrial]) -> float:
    return statistics.fmean(trial.row.objective for trial in group if trial.row.objective is not None)


def _pooled_spread(groups: Sequence[Sequence[ReportedTrial]]) -> tuple[float, int] | None:
    """Return the standard deviation between repetitions and its degrees of freedom; None without repetitions."""
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return None
    squares = sum((float(t.row.objective or 0.0) - _mean(group)) ** 2 for group in groups for t in group)
    return math.sqrt(squares / freedom), freedom


def _share_errors(ordered: Sequence[Sequence[ReportedTrial]], record: SweepRecord) -> dict[str, float]:
    """Return the standard error of each leader's score; empty where one of them is not known."""
    found = {_key(group): _share_error(group[0], record) for group in ordered[:SHOWN]}
    known = {key: error for key, error in found.items() if error is not None}
    return known if len(known) == len(found) else {}


def _share_error(trial: ReportedTrial, record: SweepRecord) -> float | None:
    """Return the standard error of a share, or of a plain mean of shares over several sets: sqrt(p (1 - p) / n).

    A share of 0 or 1 counts as half a question off it, where the formula would claim certainty.
    """
    metric, _, chosen = record.objective.partition("/")
    sets = [chosen] if chosen else list(record.test_sizes)
    if metric not in SHARES or not sets or any(name not in record.test_sizes for name in sets):
        return None
    squares = 0.0
    for name in sets:
        size = record.test_sizes[name]
        share = trial.row.objective if chosen else trial.past.latest(f"{metric}/{name}")
        # A single set is scored under the metric's own name.
        share = trial.row.objective if share is None and len(sets) == 1 else share
        if share is None or not 0 <= share <= 1:
            return None
        share = min(max(share, 0.5 / size), 1 - 0.5 / size)
        squares += share * (1 - share) / size
    return math.sqrt(squares) / len(sets)
