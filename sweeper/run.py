"""The main job: from a search space to a finished sweep, and on again after any crash."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from sweeper.adapters.study import StudyLedger, storage_for
from sweeper.adapters.yaml_space import load_space
from sweeper.core.decode import encode
from sweeper.core.errors import InputError
from sweeper.core.layout import SweepFolder, find_sweep, new_sweep, sweeps_root
from sweeper.core.lifecycle import TrialState
from sweeper.core.order import calibration_cells
from sweeper.core.record import SweepInfo, SweepSummary, TrialRow, summarise
from sweeper.core.space import SearchSpace
from sweeper.export import winner_yaml
from sweeper.judge import Judge
from sweeper.plan import PlannedCell, find_facts, offline_environment, plan_cells
from sweeper.ports import Tracker, View
from sweeper.proposer import Proposer
from sweeper.pruners.compose import from_spec

EXIT_DONE = 0
EXIT_NO_RESULT = 1
EXIT_INTERRUPTED = 3

_ELAPSED_ATTR = "elapsed_s"
"""User attribute of the study: wall-clock seconds of all runs and resumes that came to an orderly end."""
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


class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def run(
    space_path: Path,
    *,
    view: View,
    overrides: Sequence[str] = (),
    sweep: str | None = None,
    address: str | None = None,
    root: Path | None = None,
) -> Outcome:
    """Start a sweep and return when it has ended or was interrupted.

    Nothing is written before the search space, the model and the data have been found good.

    Raises:
        InputError: the search space, model or data cannot be used, or the sweep's name is taken.
    """
    space, cells = load_space(space_path, overrides)
    from_spec(space.pruner, direction=space.objective.resolved_direction)
    folder = new_sweep(space.sweep, sweep, root or sweeps_root())
    facts = find_facts(cells)
    planned = plan_cells(cells, facts)
    _refuse_if_nothing_runs(planned, space_path)
    folder.path.mkdir(parents=True)
    _write(folder.facts, json.dumps({"facts": facts, "versions": versions(), "git_commit": _git_commit()}, indent=1))
    _write(folder.space, yaml.safe_dump(encode(space), sort_keys=False, allow_unicode=True))
    return _drive(folder, space, planned, view, address)


def resume(sweep: str | None, *, view: View, address: str | None = None, root: Path | None = None) -> Outcome:
    """Go on with a sweep after any crash: exactly the cells that have not ended are run.

    Raises:
        InputError: there is no such sweep, or another process drives it.
    """
    folder = find_sweep(sweep, root or sweeps_root())
    space, planned = reopen(folder)
    return _drive(folder, space, planned, view, address)


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


def summary_of(folder: SweepFolder, space: SearchSpace, ledger: StudyLedger) -> SweepSummary:
    """Return the sweep's summary as the study stands now."""
    elapsed_s = float(ledger.study.user_attrs.get(_ELAPSED_ATTR, 0.0))
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
        )
        for cell in ledger.cells()
    ]
    return summarise(sweep_info(folder, space, len(rows)), rows, elapsed_s=elapsed_s)


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
    folder: SweepFolder, space: SearchSpace, planned: Sequence[PlannedCell], view: View, address: str | None
) -> Outcome:
    from sweeper.adapters.mlflow.tracker import MlflowTracker, TrackerBehind

    began = time.monotonic()
    with _only_driver(folder):
        ledger = open_ledger(folder, space)
        calibration = _enter_cells(ledger, space, planned)
        earlier_s = float(ledger.study.user_attrs.get(_ELAPSED_ATTR, 0.0))
        tracker = MlflowTracker(folder.path, uri=space.tracking.mlflow, on_trouble=view.notice)
        trackers: list[Tracker] = [tracker, view]
        info = sweep_info(folder, space, sum(cell.infeasible is None for cell in planned))
        for each in trackers:
            each.open_sweep(info)
        try:
            _execute(folder, space, planned, ledger, calibration, trackers, address)
        finally:
            ledger.study.set_user_attr(_ELAPSED_ATTR, earlier_s + time.monotonic() - began)
        summary = summary_of(folder, space, ledger)
        unfinished = sum(not TrialState(row.state).is_final for row in summary.rows)
        if not unfinished:
            if summary.best is not None:
                _write(folder.export, winner_yaml(folder, ledger, summary, read_facts(folder)))
            for each in trackers:
                each.close_sweep(summary)
        else:
            view.notice(f"interrupted, {unfinished} cells have not ended; go on: sweeper resume {folder.name}")
        try:
            tracker.flush()
        except TrackerBehind as error:
            view.notice(f"{error}; the record is completed by: sweeper resume {folder.name}")
        tracker.close()
    return Outcome(folder=folder, summary=summary, unfinished=unfinished)


def _execute(
    folder: SweepFolder,
    space: SearchSpace,
    planned: Sequence[PlannedCell],
    ledger: StudyLedger,
    calibration: Sequence[str],
    trackers: Sequence[Tracker],
    address: str | None,
) -> None:
    from sweeper.adapters.ray.cluster import cluster

    runnable = {p.cell.fingerprint: p for p in planned if p.infeasible is None}
    infos = {key: p.trial_info(calibration=key in calibration) for key, p in runnable.items()}
    if all(cell.state.is_final for cell in ledger.cells()):
        return
    with cluster(address) as found:
        from sweeper.adapters.ray.execute import execute

        ranks = max(p.cell.config.train.ranks for p in runnable.values())
        execute(
            judge=Judge(space.objective, ledger, trackers, WallClock()),
            propose=Proposer(ledger, infos, space.order, calibration, maximize=space.objective.maximizes),
            milestones=lambda trial: runnable[trial.fingerprint].milestones,
            resources=space.resources,
            cluster=found,
            gangs=found.gangs(ranks, space.resources),
            environment=offline_environment(space.model, space.data),
            folder=folder.ray_results,
        )


def _enter_cells(ledger: StudyLedger, space: SearchSpace, planned: Sequence[PlannedCell]) -> list[str]:
    """Enter every cell into the study, those already there aside; return the calibration cells in their order."""
    feasible = [p.cell for p in planned if p.infeasible is None]
    chosen = calibration_cells([cell.axes for cell in feasible], space.order.calibration, space.order.seed)
    calibration = [feasible[index].fingerprint for index in chosen]
    for each in planned:
        ledger.add_cell(
            each.cell,
            planned_samples=each.derived.planned_samples,
            calibration=each.cell.fingerprint in calibration,
            infeasible=each.infeasible,
        )
    return calibration


@contextmanager
def _only_driver(folder: SweepFolder) -> Iterator[None]:
    """Hold the sweep's lock; the kernel lets go of it when this process dies, however it dies."""
    with folder.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError("another process drives this sweep", where=folder.name, mend="wait for it") from None
        yield


def _refuse_if_nothing_runs(planned: Sequence[PlannedCell], where: Path) -> None:
    if all(cell.infeasible is not None for cell in planned):
        first = planned[0]
        raise InputError(
            f"none of the {len(planned)} cells can run; {first.cell.name}: {first.infeasible}", where=str(where)
        )


def _git_commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
