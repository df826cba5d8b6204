"""Reads what a report is made from: a sweep of our own, as it stands now, or recorded curves."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.milestones import Milestones
from sweeper.core.record import SweepInfo, SweepSummary, TrialRow, summarise
from sweeper.core.space import SearchSpace
from sweeper.pruners.history import History, history
from sweeper.replay.curves import Grid, load_curves
from sweeper.replay.signals import PARTS, grid_evidence, recorded_history
from sweeper.report.record import ReportedTrial, Standing, SweepRecord
from sweeper.sweep import open_ledger, read_facts, reopen, summary_of

_DATE: Final = "%Y-%m-%d %H:%M"


def sweep_record(folder: SweepFolder) -> SweepRecord:
    """Return everything that is known of a sweep, whether it has ended, was interrupted or is running."""
    space, planned = reopen(folder)
    ledger = open_ledger(folder, space)
    summary = summary_of(folder, space, ledger)
    pasts = {str(t.user_attrs["fingerprint"]): history(t) for t in ledger.study.get_trials(deepcopy=False)}
    cells = {cell.fingerprint: cell for cell in ledger.cells()}
    # From the study, not from the plan: a newer version may give the same cells other fingerprints.
    ranks = {key: int(ledger.config(key)["train"]["ranks"]) for key in cells}
    facts = read_facts(folder)
    return SweepRecord(
        name=folder.name,
        standing=_standing(summary, folder),
        summary=summary,
        trials=tuple(
            _trial(row, cells[row.fingerprint], pasts[row.fingerprint], ranks[row.fingerprint]) for row in summary.rows
        ),
        milestones=planned[0].milestones.samples,
        test_sizes=_test_sizes(space, facts["facts"]),
        provenance=_provenance(ledger, facts),
        space_yaml=folder.space.read_text(),
    )


def curves_record(path: Path) -> SweepRecord:
    """Return recorded curves (format ``curves/1``) as a sweep whose trials all ran to their end.

    Raises:
        InputError: the file is missing or a line breaks the format.
    """
    return grid_record(load_curves(path), source=path.name)


def grid_record(grid: Grid, *, source: str) -> SweepRecord:
    """Return a recorded grid as a sweep; a trial without a finite final value counts as failed."""
    milestones = Milestones.even(max(trial.cost for trial in grid.trials), PARTS)
    rows = [
        TrialRow(
            fingerprint=f"{place}",
            name=trial.name,
            axes=axes,
            state=(TrialState.COMPLETE if math.isfinite(trial.final) else TrialState.FAIL).value,
            objective=trial.final,
            samples_seen=trial.cost,
            planned_samples=trial.cost,
            reason="" if math.isfinite(trial.final) else "its final value is not finite",
        )
        for place, (trial, axes) in enumerate(zip(grid.trials, grid.axes(), strict=True))
    ]
    info = SweepInfo(
        name=grid.name,
        objective="objective",
        direction=grid.direction,
        milestones=milestones,
        space_yaml="",
        folder="",
    )
    summary = summarise(info, rows, elapsed_s=0.0, signals=grid_evidence(grid))
    return SweepRecord(
        name=grid.name,
        standing="recorded",
        summary=summary,
        trials=tuple(
            ReportedTrial(row=row, past=recorded_history(trial)) for row, trial in zip(rows, grid.trials, strict=True)
        ),
        milestones=milestones.samples,
        resource="units",
        provenance=(("recorded curves", source),),
    )


def _trial(row: TrialRow, cell: CellRecord, past: History, ranks: int) -> ReportedTrial:
    return ReportedTrial(row=row, past=past, verdict=cell.verdict, by_guard=cell.ended_by_guard, ranks=ranks)


def _standing(summary: SweepSummary, folder: SweepFolder) -> Standing:
    if all(TrialState(row.state).is_final for row in summary.rows):
        return "finished"
    return "running" if _is_driven(folder) else "interrupted"


def _is_driven(folder: SweepFolder) -> bool:
    """Return whether a driver on this machine holds the sweep's lock; it is tried for an instant, without waiting."""
    if not folder.lock.exists():
        return False
    with folder.lock.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _test_sizes(space: SearchSpace, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return the questions of each held-out set; empty where cells are measured on different ones."""
    found = [each.get("test", {}) for each in facts.values()]
    sizes = [{name: int(one["samples"]) for name, one in sets.items() if "samples" in one} for sets in found]
    if not sizes or any(each != sizes[0] for each in sizes):
        return {}
    most = space.eval.max_samples
    return {name: size if most is None else min(size, most) for name, size in sizes[0].items() if size > 0}


def _provenance(ledger: StudyLedger, facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    # An infeasible cell is dated when it is entered.
    trials = [trial for trial in ledger.study.get_trials(deepcopy=False) if trial.user_attrs.get("attempts")]
    started = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    ended = [trial.datetime_complete for trial in trials if trial.datetime_complete is not None]
    data = sorted({str(found.get("data_sha256", "")) for found in facts["facts"].values()} - {""})
    pairs = [
        ("first trial started", min(started).strftime(_DATE) if started else "none has started"),
        ("last trial ended", max(ended).strftime(_DATE) if ended else "none has ended"),
        ("git commit", str(facts.get("git_commit") or "not known")),
        ("data, sha256", ", ".join(data) or "not known"),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())),
    ]
    return tuple(pairs)
