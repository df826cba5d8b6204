"""``sweeper report``: read a sweep's record, write the page and its pictures."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweeper.core.errors import InputError, SweeperError
from sweeper.core.layout import SweepFolder, find_sweep, sweeps_root
from sweeper.report.page import PAGE_NAME, Page, build_page
from sweeper.report.record import SweepRecord
from sweeper.report.sources import curves_record, sweep_record
from sweeper.sweep import only_driver, reopen


def report(source: str | None, out: Path | None, *, now: datetime | None = None) -> Path:
    """Write the report of a sweep, or of a ``curves/1`` file, and return the path of the page.

    A page and pictures that an earlier report left in the folder are replaced. A sweep's report in its own folder is
    also put into MLflow, unless the sweep is running: then that is done at its end.

    Args:
        source: name or folder of a sweep, or a ``.jsonl`` file of recorded curves; None means the latest sweep.
        out: the folder to write to; None means ``report`` in the sweep's folder, or ``NAME-report`` here for a file.
        now: the time written on the page; None means the clock's.

    Raises:
        InputError: there is no such sweep or file, or ``out`` is a file; nothing was written.
    """
    if source is not None and source.endswith(".jsonl"):
        path = Path(source)
        return _put(curves_record(path), out or Path(f"{path.stem}-report"), now)
    folder = find_sweep(source, sweeps_root())
    page = write_report(folder, out, now=now)
    if out is None:
        _attach(folder)
    return page


def write_report(folder: SweepFolder, out: Path | None = None, *, now: datetime | None = None) -> Path:
    """Write the report of a sweep into its own folder or ``out``, and return the path of the page."""
    return _put(sweep_record(folder), out or folder.report, now)


def _put(record: SweepRecord, folder: Path, now: datetime | None) -> Path:
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, not a folder", where="--out", got=str(folder), mend="choose another name")
    page = build_page(record, written=now or datetime.now().astimezone(), version=_version())
    _write(page, folder)
    return folder / PAGE_NAME


def _attach(folder: SweepFolder) -> None:
    """Bring the report to MLflow, or say why it is not there; the page itself is written either way."""
    from sweeper.adapters.mlflow.tracker import MlflowTracker

    try:
        with only_driver(folder):
            tracker = MlflowTracker(folder.path, uri=reopen(folder)[0].tracking.mlflow)
            if not tracker.reopen():
                return
            try:
                tracker.attach_report(folder.report)
                tracker.flush()
            finally:
                tracker.close()
    except SweeperError as error:
        print(f"note: the report is not in MLflow: {error}", file=sys.stderr)


def _write(page: Page, folder: Path) -> None:
    """Write the pictures, then the page, each beside and in one move: a reader never sees half a page."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{each.name}.png": each.png for each in page.pictures} | {PAGE_NAME: page.html.encode("utf-8")}
    for name, content in files.items():
        beside = folder / f".{name}.tmp"
        beside.write_bytes(content)
        os.replace(beside, folder / name)


def _version() -> str:
    try:
        return f"sweeper {version('sweeper')}"
    except PackageNotFoundError:
        return "sweeper (not installed)"
