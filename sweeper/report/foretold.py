"""What early signals foretold: the points of one early milestone, and the test at every milestone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sweeper.core.foretell import CLAIMS, Correlation, Evidence
from sweeper.report.record import Role, SweepRecord

EARLY: Final = 0.5
"""Share of the samples up to which a milestone counts as early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A trial that ran to its end."""

    name: str
    role: Role
    early: float
    """The signal at the milestone."""
    final: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scatter:
    """One signal at one early milestone against the final objective."""

    signal: str
    claim: str
    """The paper's claim in words."""
    samples: int
    dots: tuple[Dot, ...]
    evidence: Evidence | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Foretold:
    """A line of the table: one signal at one milestone."""

    signal: str
    samples: int
    trials: int
    across: str
    within: str
    finding: str


def scatters(record: SweepRecord) -> tuple[Scatter, ...]:
    """Return one picture per signal that the paper makes a claim of and that was recorded."""
    found = (_scatter(record, signal) for signal in CLAIMS)
    return tuple(scatter for scatter in found if scatter is not None)


def claim_text(signal: str) -> str:
    """Return the claim of arXiv 2412.13337 about this signal."""
    name = {"grad_norm": "gradient norm", "train_loss": "training loss"}[signal]
    return f"a {CLAIMS[signal]} early {name} goes with a better final model"


def table(signals: Sequence[Evidence]) -> tuple[Foretold, ...]:
    """Return what was found of every signal that the paper makes a claim of, in the order of the milestones."""
    return tuple(
        Foretold(
            signal=each.signal,
            samples=each.samples,
            trials=each.trials,
            across=correlation_text(each.across),
            within=correlation_text(each.within),
            finding=each.finding(each.across),
        )
        for signal in CLAIMS
        for each in signals
        if each.signal == signal
    )


def correlation_text(found: Correlation | None) -> str:
    """Return a correlation with its interval, e.g. ``+0.41 (-0.02 to +0.71)``."""
    return "-" if found is None else f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _scatter(record: SweepRecord, signal: str) -> Scatter | None:
    places = [each for each in record.milestones[:-1] if each <= EARLY * record.milestones[-1]]
    dots = {samples: _dots(record, signal, samples) for samples in places}
    # The earliest of those that show the most trials: while some still warm up, half the picture is missing.
    samples = max(places, key=lambda each: len(dots[each]), default=None)
    if samples is None or not dots[samples]:
        return None
    known = (each for each in record.summary.signals if each.signal == signal and each.samples == samples)
    return Scatter(
        signal=signal,
        claim=claim_text(signal),
        samples=samples,
        dots=dots[samples],
        evidence=next(known, None),
    )


def _dots(record: SweepRecord, signal: str, samples: int) -> tuple[Dot, ...]:
    dots = []
    for trial in (each for each in record.ranked() if not each.row.replicate_of):
        value = trial.past.warm_value_at(signal, samples)
        if value is not None and math.isfinite(value) and trial.row.objective is not None:
            dots.append(Dot(name=trial.row.name, role=record.role(trial), early=value, final=trial.row.objective))
    return tuple(dots)
