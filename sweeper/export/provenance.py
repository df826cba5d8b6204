"""Where a winner comes from and how sure its score is: the head of every export. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.core.confirmation import Confirmation
from sweeper.core.figures import number, plural
from sweeper.core.record import SweepSummary
from sweeper.report.noise import Contest


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Everything that is said of a winner besides its config."""

    sweep: str
    trial: str
    fingerprint: str
    objective: str
    direction: str
    score: float
    runs: int
    uncertainty: str
    """How far the score may be off, and by what that is known."""
    runner_up: str
    """Its name, score and distance, or that there is none."""
    runner_up_name: str | None
    runner_up_score: float | None
    confirmation: Confirmation | None
    cells: Mapping[str, int]
    mlflow_run: str | None
    data_sha256: Sequence[str]
    git_commit: str | None
    versions: Mapping[str, str]

    def lines(self) -> list[str]:
        """Return the head's text."""
        confirmed = [] if self.confirmation is None else [f"confirm      {line}" for line in self.confirmation.lines()]
        return [
            f"Winner of sweep {self.sweep}: {self.trial}, fingerprint {self.fingerprint}",
            f"score        {self.objective} {number(self.score, 6)} ({self.direction}), {self.uncertainty}",
            f"runner-up    {self.runner_up}",
            *confirmed,
            f"MLflow run   {self.mlflow_run or 'not known'}",
            f"data sha256  {', '.join(self.data_sha256) or 'not known'}",
            f"git commit   {self.git_commit or 'not known'}",
            f"versions     {', '.join(f'{name} {version}' for name, version in self.versions.items())}",
        ]

    def to_plain(self) -> dict[str, Any]:
        """Return the same as plain values, for the key ``provenance`` of our own config."""
        rival = None
        if self.runner_up_name is not None:
            rival = {"trial": self.runner_up_name, "value": self.runner_up_score}
        return {
            "sweep": self.sweep,
            "trial": self.trial,
            "fingerprint": self.fingerprint,
            "mlflow_run": self.mlflow_run,
            "objective": {
                "metric": self.objective,
                "direction": self.direction,
                "value": self.score,
                "runs": self.runs,
                "uncertainty": self.uncertainty,
            },
            "runner_up": rival,
            "confirmation": None if self.confirmation is None else self.confirmation.verdict,
            "cells": dict(self.cells),
            "data_sha256": list(self.data_sha256),
            "git_commit": self.git_commit,
            "versions": dict(self.versions),
        }


def provenance(summary: SweepSummary, found: Contest, facts: Mapping[str, Any], mlflow_run: str | None) -> Provenance:
    """Return where the sweep's winner comes from.

    Args:
        summary: a summary that has a winner.
        found: its leaders and their noise.
        facts: what was found out before the sweep's first trial.
        mlflow_run: the winner's run, where it is known.
    """
    assert summary.best is not None
    first, second = summary.standings[0], (*summary.standings[1:2], None)[0]
    return Provenance(
        sweep=summary.sweep,
        trial=summary.best.name,
        fingerprint=summary.best.fingerprint,
        objective=summary.objective,
        direction=summary.direction,
        score=first.score,
        runs=first.runs,
        uncertainty=_uncertainty(summary, found),
        runner_up=_runner_up(summary, found),
        runner_up_name=None if second is None else second.name,
        runner_up_score=None if second is None else second.score,
        confirmation=summary.confirmation,
        cells=summary.counts,
        mlflow_run=mlflow_run,
        data_sha256=sorted({str(each.get("data_sha256")) for each in facts["facts"].values()}),
        git_commit=facts["git_commit"],
        versions=facts["versions"],
    )


def _uncertainty(summary: SweepSummary, found: Contest) -> str:
    first = summary.standings[0]
    told = (
        "one seed" if first.runs == 1 else f"mean of {plural(first.runs, 'fresh seed' if first.confirmed else 'seed')}"
    )
    error = found.contenders[0].error if found.contenders else None
    if error is None:
        return f"{told}: how far another seed would move it is not known" if first.runs == 1 else told
    basis = {
        "seeds": "from the spread between seeds",
        "seeds and test size": "from the spread between seeds and the number of questions",
        "test size": "from the number of questions alone; how far another seed would move it is not known",
    }
    return f"{told}, standard error {number(error, 2)} {basis.get(found.kind, '')}".rstrip()


def _runner_up(summary: SweepSummary, found: Contest) -> str:
    if len(summary.standings) < 2 or len(found.contenders) < 2:
        return "none: no other configuration ran to its end"
    second, rival = summary.standings[1], found.contenders[1]
    seeds = "" if second.runs == 1 else f", mean of {plural(second.runs, 'seed')}"
    # Where the pair was run again, the head has the interval of the same seeds, which is the sharper one.
    is_known = rival.half_width is None or summary.confirmation is not None
    lead = "" if is_known else f" +- {number(rival.half_width, 2)} (95%)"
    return f"{second.name}: {number(second.score, 6)}{seeds}, {number(summary.gap, 3)}{lead} behind"
