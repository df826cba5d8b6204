"""A sweep that exists: read from its folder and its study."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_storage import storage_for
from sweeper.adapters.yaml_space import load_space
from sweeper.confirm.compare import confirmation
from sweeper.core.errors import InputError
from sweeper.core.hold_back import HoldBack
from sweeper.core.layout import SweepFolder
from sweeper.core.record import SweepInfo, SweepSummary, TrialRow, summarise
from sweeper.core.space import SearchSpace
from sweeper.planned import PlannedCell, plan_cells
from sweeper.pruners.compose import GUARDS, from_spec
from sweeper.pruners.evidence import study_evidence

ELAPSED_ATTR = "elapsed_s"
"""User attribute of the study: wall-clock seconds of all runs and resumes that came to an orderly end."""


def reopen(folder: SweepFolder) -> tuple[SearchSpace, tuple[PlannedCell, ...]]:
    """Return the search space of an existing sweep and its cells as they were planned."""
    space, cells = load_space(folder.space)
    return space, plan_cells(cells, read_facts(folder)["facts"])


def read_facts(folder: SweepFolder) -> dict[str, Any]:
    """Return what was found out before the sweep's first trial: ``facts``, ``versions``, ``git_commit``."""
    found: dict[str, Any] = json.loads(folder.facts.read_text())
    return found


def open_ledger(folder: SweepFolder, space: SearchSpace) -> StudyLedger:
    """Return the sweep's study with the pruner that its search space names."""
    return StudyLedger.open(
        storage_for(space.tracking.study or folder.study),
        folder.name,
        space.objective,
        pruner=from_spec(space.pruner, direction=space.objective.resolved_direction),
        grid=space.grid,
    )


def hold_back_of(space: SearchSpace) -> HoldBack | None:
    """Return which condemned trials of the sweep run on; None where none does."""
    if space.hold_back == 0:
        return None
    return HoldBack(share=space.hold_back, seed=space.order.seed, exempt=frozenset(GUARDS))


@contextmanager
def only_driver(folder: SweepFolder) -> Iterator[None]:
    """Hold the sweep's lock; the kernel lets go of it when this process dies, however it dies."""
    with folder.lock.open("w") as lock:
        for attempt in range(5):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == 4:
                    mend = f"wait for it, or end it: sweeper stop {folder.name}"
                    raise InputError("another process drives this sweep", where=folder.name, mend=mend) from None
                # A terminal that asks for something holds it for an instant, to see whether anybody drives.
                time.sleep(0.1)
        yield


def summary_of(folder: SweepFolder, space: SearchSpace, ledger: StudyLedger) -> SweepSummary:
    """Return the sweep's summary as the study stands now."""
    elapsed_s = float(ledger.study.user_attrs.get(ELAPSED_ATTR, 0.0))
    rows = [
        TrialRow(
            fingerprint=cell.fingerprint,
            name=cell.name,
            axes=cell.axes,
            state=cell.state.value,
            objective=cell.objective,
            samples_seen=cell.samples_seen,
            planned_samples=cell.planned_samples,
            train_s=cell.train_s,
            eval_s=cell.eval_s,
            rule=cell.verdict.rule if cell.verdict is not None and cell.verdict.prunes else "",
            reason=cell.verdict.reason if cell.verdict is not None and cell.verdict.prunes else cell.detail,
            calibration=cell.calibration,
            held_back=cell.held_back,
            replicate_of=cell.replicate_of,
            seed=cell.seed,
        )
        for cell in ledger.cells()
    ]
    info = sweep_info(folder, space, len(rows))
    # At the last milestone the objective is the final one: nothing is foretold there.
    signals = study_evidence(ledger.study, info.milestones.samples[:-1])
    return summarise(
        info,
        rows,
        elapsed_s=elapsed_s,
        signals=signals,
        suspended=ledger.suspended(),
        confirmation=confirmation(rows, maximize=space.objective.maximizes),
    )


def sweep_info(folder: SweepFolder, space: SearchSpace, cells: int) -> SweepInfo:
    found = read_facts(folder)
    planned = plan_cells(load_space(folder.space)[1][:1], found["facts"])
    return SweepInfo(
        name=folder.name,
        objective=space.objective.metric,
        direction=space.objective.resolved_direction,
        milestones=planned[0].milestones,
        space_yaml=folder.space.read_text(),
        folder=str(folder.path),
        cells=cells,
        git_commit=found["git_commit"],
        versions=found["versions"],
    )
