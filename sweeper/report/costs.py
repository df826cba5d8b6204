"""What the sweep cost, state by state, and what ending trials early saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sweeper.report.record import ReportedTrial, Role, SweepRecord

NAMES: Final[dict[Role, str]] = {
    "complete": "ran to the end",
    "pruned": "pruned",
    "guard": "ended by a guard",
    "failed": "failed",
    "running": "running",
    "waiting": "not started",
    "infeasible": "cannot run",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What the trials of one state cost together."""

    state: str
    trials: int
    samples: int
    planned_samples: int
    train_s: float
    eval_s: float
    rank_s: float
    """Seconds of training and evaluation, times the ranks of each trial: GPU-seconds where a rank has a GPU."""


def costs(record: SweepRecord) -> tuple[Cost, ...]:
    """Return the costs by state, and of all together at the end; states without a trial are left out."""
    lines = []
    for role, name in NAMES.items():
        mine = [trial for trial in record.grid if _state(record, trial) == role]
        if mine:
            lines.append(_cost(name, mine))
    fresh = [trial for trial in record.trials if trial.row.replicate_of]
    if fresh:
        lines.append(_cost("run again with fresh seeds", fresh))
    return (*lines, _cost("all", record.trials))


def state_counts(record: SweepRecord) -> tuple[tuple[str, int], ...]:
    """Return how many cells are in each state, in words."""
    return tuple((line.state, line.trials) for line in costs(record)[:-1])


def _state(record: SweepRecord, trial: ReportedTrial) -> Role:
    role = record.role(trial)
    return "complete" if role == "winner" else role


def _cost(name: str, trials: Sequence[ReportedTrial]) -> Cost:
    return Cost(
        state=name,
        trials=len(trials),
        samples=sum(trial.row.samples_seen for trial in trials),
        planned_samples=sum(trial.row.planned_samples for trial in trials if trial.row.state != "infeasible"),
        train_s=sum(trial.row.train_s for trial in trials),
        eval_s=sum(trial.row.eval_s for trial in trials),
        rank_s=sum(trial.ranks * (trial.row.train_s + trial.row.eval_s) for trial in trials),
    )
