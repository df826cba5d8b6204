"""``sweeper report``: read a sweep's record, write the page and its pictures."""

from __future__ import annotations

import os
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from sweeper.core.errors import InputError
from sweeper.core.layout import find_sweep, sweeps_root
from sweeper.report.page import PAGE_NAME, Page, build_page
from sweeper.report.record import SweepRecord
from sweeper.report.sources import curves_record, sweep_record

FOLDER: Final = "report"
"""Where the page goes, in the sweep's folder, unless the user says otherwise."""


def report(source: str | None, out: Path | None, *, now: datetime | None = None) -> Path:
    """Write the report of a sweep, or of a ``curves/1`` file, and return the path of the page.

    A page and pictures that an earlier report left in the folder are replaced.

    Args:
        source: name or folder of a sweep, or a ``.jsonl`` file of recorded curves; None means the latest sweep.
        out: the folder to write to; None means ``report`` in the sweep's folder, or ``NAME-report`` here for a file.
        now: the time written on the page; None means the clock's.

    Raises:
        InputError: there is no such sweep or file, or ``out`` is a file; nothing was written.
    """
    record, folder = _read(source)
    folder = out or folder
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, not a folder", where="--out", got=str(folder), mend="choose another name")
    page = build_page(record, written=now or datetime.now().astimezone(), version=_version())
    _write(page, folder)
    return folder / PAGE_NAME


def _read(source: str | None) -> tuple[SweepRecord, Path]:
    if source is not None and source.endswith(".jsonl"):
        path = Path(source)
        return curves_record(path), Path(f"{path.stem}-{FOLDER}")
    found = find_sweep(source, sweeps_root())
    return sweep_record(found), found.path / FOLDER


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
