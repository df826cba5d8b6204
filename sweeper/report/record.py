"""What a report is made from, wherever it was recorded. Pure: sections and drawings are computed from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepSummary, TrialRow, rank
from sweeper.core.space import short_number
from sweeper.core.standings import setting, setting_key
from sweeper.core.verdict import Verdict
from sweeper.pruners.history import History

Standing = Literal["finished", "running", "interrupted", "recorded"]
Role = Literal["winner", "complete", "pruned", "guard", "failed", "infeasible", "running", "waiting"]

_ROLES: Final[Mapping[str, Role]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.INFEASIBLE: "infeasible",
    TrialState.RUNNING: "running",
    TrialState.PAUSED: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedTrial:
    """One cell with everything that was measured of it."""

    row: TrialRow
    past: History
    verdict: Verdict | None = None
    """The verdict that ended it, or the latest one."""
    by_guard: bool = False
    """Whether a guard ended it: it was broken, not just behind."""
    ranks: int = 1

    @property
    def setting(self) -> dict[str, Any]:
        """Return its axis values without the seed: what one would choose."""
        return setting(self.row.axes)

    @property
    def setting_key(self) -> str:
        """Return a text that trials of one setting share, whatever their seed."""
        return setting_key(self.row.axes)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRecord:
    """A sweep as it stands."""

    name: str
    standing: Standing
    summary: SweepSummary
    trials: tuple[ReportedTrial, ...]
    """In the order of ``summary.rows``."""
    milestones: tuple[int, ...]
    """Sample counts; the last one ends a trial."""
    resource: str = "samples"
    """Unit of the axis on which trials are compared."""
    test_sizes: Mapping[str, int] = field(default_factory=dict)
    """Questions of each held-out set that is scored, by name; empty where it is not known."""
    provenance: tuple[tuple[str, str], ...] = ()
    """What the sweep was made with, as pairs to show."""
    space_yaml: str = ""

    @property
    def objective(self) -> str:
        return self.summary.objective

    @property
    def grid(self) -> tuple[ReportedTrial, ...]:
        """Return the trials that are cells of the grid, without the leaders' runs with fresh seeds."""
        return tuple(trial for trial in self.trials if not trial.row.replicate_of)

    @property
    def maximize(self) -> bool:
        return self.summary.direction == "maximize"

    @property
    def goal(self) -> str:
        return "higher is better" if self.maximize else "lower is better"

    def ranked(self) -> list[ReportedTrial]:
        """Return the completed trials with a finite objective, best first."""
        places = {row.fingerprint: place for place, row in enumerate(rank(self.summary.rows, maximize=self.maximize))}
        found = [trial for trial in self.trials if trial.row.fingerprint in places]
        return sorted(found, key=lambda trial: places[trial.row.fingerprint])

    def role(self, trial: ReportedTrial) -> Role:
        """Return how the trial is to be shown."""
        if self.summary.best is not None and trial.row.fingerprint == self.summary.best.fingerprint:
            return "winner"
        return "guard" if trial.by_guard else _ROLES[trial.row.state]


def value_text(value: Any) -> str:
    """Return an axis value as people write it: ``2e-5``, ``cosine``, ``none``."""
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value) if isinstance(value, (str, bool)) else json.dumps(value, default=str)
    return short_number(value)


def ordered_values(values: list[Any]) -> list[Any]:
    """Return the distinct values, numbers rising, anything else in order of appearance."""
    distinct = list({json.dumps(value, default=str): value for value in values}.values())
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in distinct)
    return sorted(distinct) if numbers else distinct
