"""What must hold after a drilled sweep, counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sweeper.adapters.study_cells import CellRecord
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.spool import Spool
from sweeper.sweep import open_ledger, reopen, summary_of


def cells(folder: SweepFolder) -> dict[str, CellRecord]:
    space, _ = reopen(folder)
    return {cell.name: cell for cell in open_ledger(folder, space).cells()}


def ended(folder: SweepFolder) -> dict[str, str]:
    """Return the records of the cells that have ended, as text: NaN is not equal to itself."""
    return {name: repr(cell) for name, cell in cells(folder).items() if cell.state.is_final}


def winner(folder: SweepFolder) -> str | None:
    space, _ = reopen(folder)
    best = summary_of(folder, space, open_ledger(folder, space)).best
    return best.name if best else None


def count(folder: SweepFolder, mlflow_store: str) -> Counter[str]:
    """Return what is wrong with an ended sweep, by kind; and ``points``, how many there are in MLflow."""
    space, _ = reopen(folder)
    ledger = open_ledger(folder, space)
    trials = Counter(str(trial.user_attrs["fingerprint"]) for trial in ledger.study.get_trials(deepcopy=False))
    found = Counter(
        cells=len(trials),
        entered_twice=sum(times > 1 for times in trials.values()),
        not_ended=sum(not cell.state.is_final for cell in ledger.cells()),
        failed=sum(cell.state is TrialState.FAIL for cell in ledger.cells()),
    )
    reported, logged = reported_steps(folder), logged_steps(folder, mlflow_store)
    for key, steps in reported.items():
        have = Counter(logged.get(key, []))
        found["points"] += sum(have.values())
        found["points_lost"] += len(set(steps) - set(have))
        found["points_doubled"] += sum(times - 1 for times in have.values())
    return found


def last_event(folder: SweepFolder) -> float:
    """Return when the sweep last recorded anything, in seconds since the epoch."""
    files = [folder.space, *(folder.path / "spool").glob("*.jsonl")]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def reported_steps(folder: SweepFolder) -> dict[str, list[int]]:
    """Return the samples seen at every optimizer step that a trial reported, by fingerprint."""
    spool = Spool(folder.path)
    found = {}
    for cell in cells(folder).values():
        if spool.holds(cell.fingerprint):
            events = spool.read(cell.fingerprint, max_bytes=1 << 28).events
            measured = [event.body["measurement"] for event in events if event.kind == "measured"]
            found[cell.fingerprint] = [point["samples_seen"] for one in measured for point in one["series"]]
    return found


def logged_steps(folder: SweepFolder, mlflow_store: str) -> dict[str, list[int]]:
    """Return the steps of every trial's loss points in MLflow, by fingerprint; a second run of a trial adds its own."""
    import mlflow

    client = mlflow.MlflowClient(mlflow_store)
    runs: Any = client.search_runs([each.experiment_id for each in client.search_experiments()])
    found: dict[str, list[int]] = {}
    for run in runs:
        key = run.data.tags.get("sweeper.fingerprint")
        if key is not None and run.data.tags.get("sweeper.sweep") == folder.name:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
            found.setdefault(key, []).extend(steps)
    return found


def sweep_folder(root: Path, name: str) -> SweepFolder:
    return SweepFolder(root / "sweeps" / name)
