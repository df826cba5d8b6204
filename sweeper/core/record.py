"""What the record of a sweep is told: the sweep, its trials, and the summary at its end.

A tracker and a terminal view are fed the same values, so that both always tell the same story.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sweeper.core.config import TrialConfig
from sweeper.core.confirmation import Confirmation
from sweeper.core.decode import decode, encode
from sweeper.core.derive import Derived
from sweeper.core.foretell import Evidence
from sweeper.core.hold_back import FalsePrunes, false_prunes
from sweeper.core.lifecycle import TrialState
from sweeper.core.milestones import Milestones
from sweeper.core.standings import Standing, standings


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepInfo:
    """A sweep as it starts."""

    name: str
    objective: str
    """The held-out score by which trials are ranked, e.g. ``heldout_loss``."""
    direction: Literal["minimize", "maximize"]
    milestones: Milestones
    space_yaml: str
    """The search space as the user wrote it."""
    folder: str
    """Absolute path of the sweep's folder."""
    cells: int = 0
    """Cells of the grid that can run; 0 where it is not known."""
    git_commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """Installed version of each library that decides the numbers."""

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> SweepInfo:
        return decode(cls, plain)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataInput:
    """A data set that a trial reads."""

    role: Literal["train", "test"]
    path: str
    """As the config names it."""
    sha256: str
    """Of its contents."""
    samples: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialInfo:
    """A trial as it starts."""

    fingerprint: str
    name: str
    """Readable and unique in its sweep, e.g. ``b256-lr1e-3-w0``."""
    axes: Mapping[str, Any]
    """The values that set this cell apart, by axis."""
    config: TrialConfig
    derived: Derived
    calibration: bool = False
    """Whether only guards may end it."""
    data: tuple[DataInput, ...] = ()
    """Every data set it reads."""
    data_sha256: str = ""
    """Of everything it reads, the key of its tokenised data; empty where it is not known."""
    replicate_of: str = ""
    """Fingerprint of the cell that this trial repeats with a fresh seed; empty for a cell of the grid."""

    @property
    def unpruned_because(self) -> str:
        """Return why only guards may end it, as people read it; empty for a trial that may be pruned."""
        if self.replicate_of:
            return "fresh seed: runs to its end"
        return "calibration: runs to its end" if self.calibration else ""

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> TrialInfo:
        return decode(cls, plain)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """One line of a sweep's summary table."""

    fingerprint: str
    name: str
    axes: Mapping[str, Any]
    state: str
    """A ``TrialState`` by value."""
    objective: float | None = None
    """Last measured value; None where none was measured."""
    samples_seen: int = 0
    planned_samples: int = 0
    """0 where the cell never started."""
    train_s: float = 0.0
    eval_s: float = 0.0
    rule: str = ""
    """The rule that ended the trial; empty where it ended by itself."""
    reason: str = ""
    calibration: bool = False
    held_back: str = ""
    """The rule that would have pruned the trial, which ran on to check it; empty where none."""
    replicate_of: str = ""
    """Fingerprint of the cell that this trial repeats with a fresh seed; empty for a cell of the grid."""
    seed: int | None = None
    """Its ``train.seed``; None where it is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    """A sweep as it ended. Build it with ``summarise``, so that every number comes from the rows."""

    sweep: str
    objective: str
    direction: Literal["minimize", "maximize"]
    rows: tuple[TrialRow, ...]
    counts: Mapping[str, int]
    """Cells of the grid by state; runs with fresh seeds are none."""
    rules: Mapping[str, int]
    """Trials ended early, by the rule that ended them."""
    best: TrialRow | None
    """The first finished trial of the best configuration (see ``sweeper.core.standings``)."""
    runner_up: TrialRow | None
    """The same of the second best."""
    full_samples: int
    """Samples the whole grid would have trained on."""
    seen_samples: int
    spent_s: float
    """Seconds of training and evaluation, summed over trials."""
    saved_s: float
    """Estimate: what the samples not seen would have cost each pruned trial at its own measured speed, or, where it was
    never started, at that of the sweep."""
    elapsed_s: float
    """Wall-clock seconds of the sweep, all attempts together."""
    signals: tuple[Evidence, ...] = ()
    """What each signal foretold at each milestone, among the trials that ran to their end."""
    suspended: Mapping[str, str] = field(default_factory=dict)
    """Rules that were no longer believed, each with the reason."""
    confirmation: Confirmation | None = None
    """What running the leaders again has shown; None where nobody did."""

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Return the configurations with a finished trial, best first."""
        return standings(self.rows, maximize=self.direction == "maximize")

    @property
    def saved_samples_share(self) -> float:
        """Share of the full grid's samples that was not trained on; 0 for an empty grid."""
        return 1 - self.seen_samples / self.full_samples if self.full_samples else 0.0

    @property
    def gap(self) -> float | None:
        """How far the best lies from the runner-up, by their means over seeds; None without a runner-up."""
        found = self.standings
        return abs(found[0].score - found[1].score) if len(found) > 1 else None

    @property
    def pruned_ahead(self) -> TrialRow | None:
        """The pruned trial whose last objective is best, where it beats the winner's final one; else None.

        It was cut off early, so pruning may have cost the sweep its best config.
        """
        maximize = self.direction == "maximize"
        ended = [row for row in self.rows if row.state == TrialState.PRUNED and not row.replicate_of]
        ahead = ranked(ended, maximize=maximize)
        if not ahead or self.best is None:
            return None
        best = replace(self.best, objective=self.standings[0].score)
        return ahead[0] if ranked([best, ahead[0]], maximize=maximize)[0] is ahead[0] else None

    @property
    def false_prunes(self) -> FalsePrunes | None:
        """How often a prune would have been wrong, as the held-back trials tell; None where none ran to its end."""
        grid = [row for row in self.rows if not row.replicate_of]
        done = rank(grid, maximize=self.direction == "maximize")
        finals = {row.fingerprint: row.objective for row in done if row.objective is not None}
        held_back = [row.fingerprint for row in self.rows if row.held_back]
        return false_prunes(finals, held_back, maximize=self.direction == "maximize")

    def metrics(self) -> dict[str, float]:
        """Return the summary's numbers by flat name; a number that does not exist is left out."""
        numbers: dict[str, float] = {f"trials_{state}": float(count) for state, count in self.counts.items()}
        numbers |= {f"ended_by_{rule}": float(count) for rule, count in self.rules.items()}
        numbers |= {
            "saved_samples_share": self.saved_samples_share,
            "saved_s": self.saved_s,
            "spent_s": self.spent_s,
            "elapsed_s": self.elapsed_s,
        }
        if self.standings:
            numbers["best_objective"] = self.standings[0].score
            numbers["best_runs"] = float(self.standings[0].runs)
        if self.gap is not None:
            numbers["gap_to_runner_up"] = self.gap
        checked = self.false_prunes
        if checked is not None:
            numbers |= {"held_back_trials": float(checked.trials), "false_prune_rate": checked.rate}
            numbers |= {"false_prune_rate_low": checked.low, "false_prune_rate_high": checked.high}
        return numbers

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; non-finite numbers are strings."""
        return {**encode(self), "saved_samples_share": self.saved_samples_share, "gap": encode(self.gap)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> SweepSummary:
        fields = {key: value for key, value in plain.items() if key not in ("saved_samples_share", "gap")}
        return decode(cls, fields)


def summarise(
    sweep: SweepInfo,
    rows: Sequence[TrialRow],
    *,
    elapsed_s: float,
    signals: Sequence[Evidence] = (),
    suspended: Mapping[str, str] | None = None,
    confirmation: Confirmation | None = None,
) -> SweepSummary:
    """Return the summary of ``rows``.

    Only completed trials with a finite objective can win; ties go to the earlier row. INFEASIBLE cells and cells whose
    size is not known (``planned_samples`` 0) count neither as cost nor as saving. Runs with fresh seeds count in
    ``spent_s`` alone.
    """
    winners = [rows[each.place] for each in standings(rows, maximize=sweep.direction == "maximize")[:2]]
    grid = [row for row in rows if not row.replicate_of]
    runnable = [row for row in grid if row.state != TrialState.INFEASIBLE]
    ended = [row for row in grid if row.state == TrialState.PRUNED]
    return SweepSummary(
        sweep=sweep.name,
        objective=sweep.objective,
        direction=sweep.direction,
        rows=tuple(rows),
        counts=dict(Counter(row.state for row in grid)),
        rules=dict(Counter(row.rule for row in ended if row.rule)),
        best=winners[0] if winners else None,
        runner_up=winners[1] if len(winners) > 1 else None,
        full_samples=sum(row.planned_samples for row in runnable),
        # The last step of a large batch may go past the planned end: that is no negative saving.
        seen_samples=sum(min(row.samples_seen, row.planned_samples) for row in runnable),
        spent_s=sum(row.train_s + row.eval_s for row in rows),
        saved_s=sum(_saved_s(row, _seconds_per_sample(rows)) for row in ended),
        elapsed_s=elapsed_s,
        signals=tuple(signals),
        suspended=dict(suspended or {}),
        confirmation=confirmation,
    )


def rank(rows: Sequence[TrialRow], *, maximize: bool) -> list[TrialRow]:
    """Return the completed trials with a finite objective, best first."""
    return ranked([row for row in rows if row.state == TrialState.COMPLETE], maximize=maximize)


def ranked(rows: Sequence[TrialRow], *, maximize: bool) -> list[TrialRow]:
    """Return the rows with a finite objective in any state, best first; equals keep their order."""
    scored = [(row.objective, row) for row in rows if row.objective is not None and math.isfinite(row.objective)]
    return [row for _, row in sorted(scored, key=lambda pair: -pair[0] if maximize else pair[0])]


def _saved_s(row: TrialRow, usual: float) -> float:
    left = max(row.planned_samples - row.samples_seen, 0)
    return left * (_seconds_per_sample([row]) if row.samples_seen else usual)


def _seconds_per_sample(rows: Sequence[TrialRow]) -> float:
    seen = sum(row.samples_seen for row in rows)
    return sum(row.train_s + row.eval_s for row in rows) / seen if seen else 0.0
