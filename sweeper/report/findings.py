"""The paper's findings, asked of this sweep: "Unveiling the Secret Recipe" (arXiv 2412.13337).

Each is answered from pairs of settings that agree in every axis but the one in question, one pair for each choice of
the others, so that no cell counts twice. Settings that did not run to their end have no final score and make no pair.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from scipy.special import stdtrit

from sweeper.core.foretell import Evidence
from sweeper.report.foretold import claim_text, scatters
from sweeper.report.record import SweepRecord

Answer = Literal["holds", "does not hold", "not enough evidence"]
TIE: Final = 0.05
"""A difference below this share of the distance from the median final to the best counts as none, as for pruners."""
MIN_PAIRS: Final = 3
"""Fewest pairs whose spread says how sure their mean is."""
WARMUPS: Final = ("warmup_steps", "warmup_samples", "warmup_ratio")
SQUARE_ROOT: Final = 0.5
"""Exponent by which the rate would grow with the batch for adaptive optimizers; 1 is the linear rule. Below it, growth
is not what the batch asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One configuration that ran to its end."""

    axes: Mapping[str, Any]
    """Without the seed."""
    goodness: float
    """Mean final objective over its seeds, signed so that higher is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """A mean with its 95% interval, which is the whole line where too few pairs tell their spread."""

    value: float
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One claim and what the sweep says of it."""

    claim: str
    compared: str
    """What was set against what."""
    pairs: int
    alone: int
    """Choices of the other axes under which only one side ran to its end."""
    effect: Effect | None
    """Mean over the pairs, positive where it speaks for the claim; of a signal, its correlation. None without any."""
    unit: str
    answer: Answer


Values = Mapping[Any, float]
"""Goodness by the value of the axis in question."""


def findings(record: SweepRecord) -> tuple[Finding, ...]:
    """Return every finding of the paper that this sweep's axes or signals can speak of."""
    settings = _settings(record)
    tie, unit = _tie([setting.goodness for setting in settings]), record.objective
    axes = {axis for trial in record.trials for axis in trial.setting}
    found: list[Finding] = []
    if {"batch_size", "learning_rate"} <= axes:
        claim = "a larger batch ends better"
        sides = "largest against smallest batch, each at its own best learning rate"
        better = partial(_better, settings, "batch_size", _last_minus_first, tuned="learning_rate")
        found += [better(claim=claim, compared=sides, tie=tie, unit=unit), _scaling(settings)]
    if "learning_rate" in axes:
        claim, sides = "a lower learning rate ends better", "lowest against highest learning rate that ran to its end"
        found.append(
            _better(settings, "learning_rate", _first_minus_last, claim=claim, compared=sides, tie=tie, unit=unit)
        )
    found += [
        _no_worse(settings, axis, plain, claim=claim, compared=sides, tie=tie, unit=unit)
        for axis, plain, claim, sides in _NEEDLESS
        if axis in axes
    ]
    return (*found, *_signals(record))


_NEEDLESS: Final = (
    *((axis, (0, None), "warmup is needless", "no warmup against the mean of some") for axis in WARMUPS),
    ("schedule", ("constant",), "a constant rate is as good as a decay", "constant against the mean of the decays"),
    ("data.strategy", ("stacked",), "stacked data is as good as phases", "stacked against phased"),
)


def _settings(record: SweepRecord) -> list[Setting]:
    sign = 1.0 if record.maximize else -1.0
    runs: dict[str, list[float]] = {}
    axes: dict[str, Mapping[str, Any]] = {}
    for trial in record.ranked():
        if trial.row.objective is not None:
            runs.setdefault(trial.setting_key, []).append(sign * trial.row.objective)
            axes[trial.setting_key] = trial.setting
    return [Setting(axes=axes[key], goodness=statistics.fmean(values)) for key, values in runs.items()]


def _tie(goodness: Sequence[float]) -> float:
    return TIE * (max(goodness) - statistics.median(goodness)) if goodness else 0.0


def _matched(settings: Sequence[Setting], axis: str, tuned: str = "") -> list[dict[Any, Setting]]:
    """Return, for each choice of the other axes, the best setting by the value of this axis."""
    strata: dict[str, dict[Any, Setting]] = {}
    for setting in settings:
        if axis not in setting.axes:
            continue
        others = {name: value for name, value in setting.axes.items() if name not in (axis, tuned)}
        stratum = strata.setdefault(json.dumps(others, sort_keys=True, default=str), {})
        value = setting.axes[axis]
        if value not in stratum or setting.goodness > stratum[value].goodness:
            stratum[value] = setting
    return list(strata.values())


def _better(
    settings: Sequence[Setting],
    axis: str,
    effect_of: Callable[[Values], float],
    *,
    claim: str,
    compared: str,
    tie: float,
    unit: str,
    tuned: str = "",
) -> Finding:
    """Answer a claim that one side is better: it is, or by no more than a tie if at all."""
    strata = [{value: s.goodness for value, s in stratum.items()} for stratum in _matched(settings, axis, tuned)]
    pairs = [effect_of(values) for values in strata if len(values) > 1]
    effect = _mean(pairs)
    return Finding(
        claim=claim,
        compared=compared,
        pairs=len(pairs),
        alone=len(strata) - len(pairs),
        effect=effect,
        unit=unit,
        answer=_answer(effect, holds_above=0.0, fails_below=tie),
    )


def _no_worse(
    settings: Sequence[Setting],
    axis: str,
    plain: tuple[Any, ...],
    *,
    claim: str,
    compared: str,
    tie: float,
    unit: str,
) -> Finding:
    """Answer a claim that the plain side loses nothing: no more than a tie, or more."""
    pairs, alone = [], 0
    for stratum in _matched(settings, axis):
        bare = [setting.goodness for value, setting in stratum.items() if value in plain]
        others = [setting.goodness for value, setting in stratum.items() if value not in plain]
        if bare and others:
            pairs.append(statistics.fmean(bare) - statistics.fmean(others))
        else:
            alone += 1
    effect = _mean(pairs)
    return Finding(
        claim=claim,
        compared=compared,
        pairs=len(pairs),
        alone=alone,
        effect=effect,
        unit=unit,
        answer=_answer(effect, holds_above=-tie, fails_below=-tie),
    )


def _scaling(settings: Sequence[Setting]) -> Finding:
    """Answer whether the best rate grows with the batch: by which power, once for each choice of the other axes."""
    strata = _matched(settings, "batch_size", tuned="learning_rate")
    exponents = []
    for by_batch in strata:
        small, large = min(by_batch), max(by_batch)
        if small < large:
            growth = by_batch[large].axes["learning_rate"] / by_batch[small].axes["learning_rate"]
            exponents.append(math.log(growth) / math.log(large / small))
    effect = _mean(exponents)
    against = None if effect is None else Effect(value=-effect.value, low=-effect.high, high=-effect.low)
    return Finding(
        claim="the best learning rate need not grow with the batch",
        compared="power of the batch by which the best rate grew; 1 is the linear rule, 0.5 the square root",
        pairs=len(exponents),
        alone=len(strata) - len(exponents),
        effect=effect,
        unit="exponent",
        answer=_answer(against, holds_above=-SQUARE_ROOT, fails_below=-SQUARE_ROOT),
    )


def _answer(effect: Effect | None, *, holds_above: float, fails_below: float) -> Answer:
    """Return what the whole interval says: above the one, it holds; below the other, it does not."""
    if effect is None:
        return "not enough evidence"
    if effect.low > holds_above:
        return "holds"
    return "does not hold" if effect.high < fails_below else "not enough evidence"


def _signals(record: SweepRecord) -> list[Finding]:
    found = []
    for scatter in scatters(record):
        evidence = scatter.evidence
        if evidence is None:
            continue
        found += [
            _foretold(evidence, where=f"at {scatter.samples:,} {record.resource}, all trials"),
            _foretold(evidence, where=f"at {scatter.samples:,} {record.resource}, within a batch size", within=True),
        ]
    return found


def _foretold(evidence: Evidence, *, where: str, within: bool = False) -> Finding:
    correlation = evidence.within if within else evidence.across
    return Finding(
        claim=claim_text(evidence.signal),
        compared=f"rank correlation of a higher signal with a better end {where}",
        pairs=evidence.trials,
        alone=0,
        effect=None
        if correlation is None
        else Effect(value=correlation.value, low=correlation.low, high=correlation.high),
        unit="correlation",
        answer=evidence.finding(correlation),
    )


def _last_minus_first(values: Values) -> float:
    ordered = sorted(values)
    return values[ordered[-1]] - values[ordered[0]]


def _first_minus_last(values: Values) -> float:
    return -_last_minus_first(values)


def _mean(pairs: Sequence[float]) -> Effect | None:
    """Return the mean with its 95% interval by Student's t, None where there is nothing to average."""
    if not pairs:
        return None
    mean = statistics.fmean(pairs)
    if len(pairs) < MIN_PAIRS:
        return Effect(value=mean)
    half = float(stdtrit(len(pairs) - 1, 0.975)) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return Effect(value=mean, low=mean - half, high=mean + half)
