"""The main job: from a search space to a finished sweep, and on again after any crash."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from sweeper.adapters.ray.address import refuse_passing_folder
from sweeper.adapters.ray.cluster import Cluster, cluster
from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_storage import refuse_taken_study
from sweeper.clones import cloned_cells
from sweeper.confirm.choose import choose, enter, entered
from sweeper.core.decode import encode
from sweeper.core.errors import InputError, SweeperError
from sweeper.core.foreign_code import foreign_code
from sweeper.core.layout import SweepFolder, find_sweep, new_sweep, shown, sweeps_root
from sweeper.core.lifecycle import TrialState
from sweeper.core.over_long import over_long
from sweeper.core.record import SweepSummary
from sweeper.core.space import Cell, SearchSpace
from sweeper.export.command import make_export
from sweeper.job import Job, run_job
from sweeper.planned import PlannedCell, find_facts, plan_cells
from sweeper.planning.keep import keep_plan
from sweeper.ports import View
from sweeper.proposer import calibration_of
from sweeper.pruners.compose import from_spec
from sweeper.report.command import write_report
from sweeper.sweep import (
    ELAPSED_ATTR,
    only_driver,
    open_ledger,
    read_facts,
    reopen,
    summary_of,
    sweep_info,
)

if TYPE_CHECKING:
    from sweeper.adapters.mlflow.tracker import MlflowTracker

EXIT_DONE = 0
EXIT_NO_RESULT = 1
EXIT_INTERRUPTED = 3

_VERSIONED = ("sweeper", "torch", "transformers", "ray", "optuna", "mlflow", "numpy", "deepspeed", "flash-attn")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run or resume ended."""

    folder: SweepFolder
    summary: SweepSummary
    unfinished: int
    """Cells that have not ended; above 0 only after an interruption."""

    @property
    def exit_code(self) -> int:
        if self.unfinished:
            return EXIT_INTERRUPTED
        return EXIT_DONE if self.summary.best is not None else EXIT_NO_RESULT


def run(
    space: SearchSpace,
    cells: Sequence[Cell],
    *,
    source: str,
    view: View,
    sweep: str | None = None,
    address: str | None = None,
    root: Path | None = None,
) -> Outcome:
    """Start a sweep and return when it has ended or was interrupted.

    Nothing is written before the search space, the model and the data have been found good. ``source`` says where the
    search space comes from.

    Raises:
        InputError: the search space, model or data cannot be used, or the sweep's name is taken.
    """
    from_spec(space.pruner, direction=space.objective.resolved_direction)
    where = cluster(address)
    folder = new_sweep(space.sweep, sweep, root or sweeps_root())
    refuse_passing_folder(folder.path)
    refuse_taken_study(space.tracking.study, folder.name)
    facts = find_facts(cells)
    planned = plan_cells(cells, facts)
    _refuse_if_nothing_runs(planned, source)
    code = foreign_code(each.cell.config for each in planned)
    for note in sorted({code, *(over_long(found) for found in facts.values())} - {""}):
        view.notice(note)
    view.notice(f"{_readable(planned)}; {'starting' if address is None else 'connecting to'} Ray")
    with where as found:
        runnable = [each.cell.config for each in planned if each.infeasible is None]
        found.refuse_what_never_fits(runnable, space.resources)
        folder.path.mkdir(parents=True, exist_ok=folder.is_reserved)
        origin = {"facts": facts, "versions": versions(), "git_commit": _git_commit()}
        _write(folder.facts, json.dumps(origin, indent=1))
        keep_plan(folder, space, cells, facts)
        # Last: a folder with a search space is a sweep.
        _write(folder.space, yaml.safe_dump(encode(space), sort_keys=False, allow_unicode=True))
        return _drive(folder, space, planned, view, nullcontext(found))


def resume(sweep: str | None, *, view: View, address: str | None = None, root: Path | None = None) -> Outcome:
    """Go on with a sweep after any crash: exactly the cells that have not ended are run.

    Raises:
        InputError: there is no such sweep, or another process drives it.
    """
    folder = find_sweep(sweep, root or sweeps_root())
    space, planned = reopen(folder)
    return _drive(folder, space, planned, view, cluster(address))


def confirm(
    sweep: str | None, *, view: View, top: int, seeds: int, address: str | None = None, root: Path | None = None
) -> Outcome:
    """Run the ``top`` configurations of a sweep that has ended again, each with ``seeds`` fresh seeds, unpruned.

    After an interruption the same call, or ``resume``, runs exactly what has not ended.

    Raises:
        InputError: the sweep has not ended, or too few configurations ran to their end.
    """
    folder = find_sweep(sweep, root or sweeps_root())
    space, planned = reopen(folder)

    def enter_fresh(ledger: StudyLedger) -> None:
        facts = read_facts(folder)["facts"]
        enter(ledger, choose(summary_of(folder, space, ledger), ledger, facts, top=top, seeds=seeds))

    return _drive(folder, space, planned, view, cluster(address), enter_fresh)


def versions() -> dict[str, str]:
    """Return the installed version of each library that decides the numbers."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _drive(
    folder: SweepFolder,
    space: SearchSpace,
    planned: Sequence[PlannedCell],
    view: View,
    where: AbstractContextManager[Cluster],
    enter_more: Callable[[StudyLedger], None] = lambda ledger: None,
) -> Outcome:
    from sweeper.adapters.mlflow.tracker import MlflowTracker

    began = time.monotonic()
    with only_driver(folder), ExitStack() as at_end:
        at_end.callback(view.close)
        ledger = open_ledger(folder, space)
        calibration = _enter_cells(ledger, space, planned)
        clones = plan_cells(cloned_cells(ledger), read_facts(folder)["facts"])
        enter_more(ledger)
        fresh = entered(ledger, read_facts(folder)["facts"])
        unpruned = [*calibration, *(each.cell.fingerprint for each in fresh)]
        job = Job(folder, space, (*planned, *clones, *fresh), ledger, unpruned)
        earlier_s = float(ledger.study.user_attrs.get(ELAPSED_ATTR, 0.0))
        tracker = MlflowTracker(folder.path, uri=space.tracking.mlflow, on_trouble=view.notice)
        at_end.callback(_write_best, folder, ledger)
        at_end.callback(_settle, tracker, view, folder)
        info = sweep_info(folder, space, len(job.infos))
        for each in (tracker, view):
            each.open_sweep(info)
        view.recall(summary_of(folder, space, ledger).rows)
        try:
            run_job(job, (tracker, view), where, view.notice)
        except KeyboardInterrupt:
            view.notice("interrupted before the trials began")
        finally:
            ledger.study.set_user_attr(ELAPSED_ATTR, earlier_s + time.monotonic() - began)
        return _close(folder, space, ledger, tracker, view)


def _close(folder: SweepFolder, space: SearchSpace, ledger: StudyLedger, tracker: MlflowTracker, view: View) -> Outcome:
    summary = summary_of(folder, space, ledger)
    unfinished = sum(not TrialState(row.state).is_final for row in summary.rows)
    if unfinished:
        view.notice(f"interrupted, {unfinished} cells have not ended; go on: sweeper resume {folder.name}")
    else:
        for each in (tracker, view):
            each.close_sweep(summary)
        view.notice(f"report: {shown(write_report(folder))}")
        tracker.attach_report(folder.report)
    return Outcome(folder=folder, summary=summary, unfinished=unfinished)


def _write_best(folder: SweepFolder, ledger: StudyLedger) -> None:
    """Write the winner of a sweep that has ended; after MLflow is up to date, as the winner's run is named."""
    cells = ledger.cells()
    if all(cell.state.is_final for cell in cells) and any(cell.state is TrialState.COMPLETE for cell in cells):
        _write(folder.export, make_export(folder, "yaml").text)


def _settle(tracker: MlflowTracker, view: View, folder: SweepFolder) -> None:
    """Bring MLflow up to date, or say that it is not; either way the spool holds everything."""
    try:
        tracker.flush()
    except SweeperError as error:
        view.notice(f"{error}; the record is completed by: sweeper resume {folder.name}")
    finally:
        tracker.close()


def _enter_cells(ledger: StudyLedger, space: SearchSpace, planned: Sequence[PlannedCell]) -> list[str]:
    """Enter every cell into the study, those already there aside; return the calibration cells in their order."""
    feasible = [p.cell for p in planned if p.infeasible is None]
    calibration = calibration_of(space, feasible)
    for each in planned:
        ledger.add_cell(
            each.cell,
            planned_samples=each.derived.planned_samples,
            calibration=each.cell.fingerprint in calibration,
            infeasible=each.infeasible,
        )
    return calibration


def _refuse_if_nothing_runs(planned: Sequence[PlannedCell], where: str) -> None:
    if all(cell.infeasible is not None for cell in planned):
        first = planned[0]
        raise InputError(
            f"none of the {len(planned)} cells can run; {first.cell.name}: {first.infeasible}", where=where
        )


def _readable(planned: Sequence[PlannedCell]) -> str:
    return f"model and data are readable, {planned[0].derived.train_samples:,} samples to train on"


def _git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:  # no git here, as in an image
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
