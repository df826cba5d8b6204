"""Rows of the comparison: one rule on one grid with one number of workers, played once and kept in a file.

The whole comparison takes hours. A row that the same commit has made of the same curves is not played again, so a run
that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.pruners.rules import RULES
from sweeper.replay.curves import load_curves
from sweeper.replay.plot import Orders
from sweeper.replay.score import average

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What makes a row what it is."""

    commit: str
    """Of the code; empty where it has changes that no commit holds, and its rows are not taken up again."""
    rule: str
    curves: str
    """Digest of the file of curves."""
    workers: int
    orders: int
    seed: int


def commit() -> str:
    """Return the commit of this code, empty where the work tree differs from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(here), *words], check=True, capture_output=True, text=True).stdout

    changed = git("status", "--porcelain", "--untracked-files=no").strip()
    return "" if changed else git("rev-parse", "HEAD").strip()


def digest(path: Path) -> str:
    """Return what tells this file of curves from any other."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def curve_files(folders: Sequence[Path], grids: str) -> list[Path]:
    """Return the files of curves in the folders whose name holds one of these, comma-separated; all where empty."""
    wanted = [part for part in grids.split(",") if part] or [""]
    files = sorted(path for folder in folders for path in folder.glob("*.jsonl"))
    found = [path for path in files if any(part in path.name for part in wanted)]
    if not found:
        where = ", ".join(map(str, folders))
        raise SystemExit(f"no curves: no .jsonl in {where}" + (f" whose name holds {grids}" if grids else ""))
    return found


def jobs_of(
    files: Sequence[Path], rules: Iterable[str], workers: str, orders: int, seed: int = 0
) -> list[tuple[Path, Job]]:
    """Return a job for each rule, file and number of workers (comma-separated), in this order."""
    code, digests = commit(), {path: digest(path) for path in files}
    return [
        (path, Job(commit=code, rule=rule, curves=digests[path], workers=int(n), orders=orders, seed=seed))
        for rule in rules
        for path in files
        for n in workers.split(",")
    ]


def play(path: Path, job: Job) -> Row:
    """Return the score of one rule on one grid with one number of workers."""
    began = time.process_time()
    grid = load_curves(path)
    endings = [RULES[job.rule](grid, job.workers, job.seed + each) for each in range(job.orders)]
    score = average(grid, job.rule, job.workers, endings)
    orders = Orders.of(grid, job.rule, job.workers, endings)
    by_order = {"saved_by_order": orders.saved, "kept_by_order": orders.kept}
    return {**score.to_json(), **by_order, "processor_s": time.process_time() - began, "job": asdict(job)}


def play_all(
    jobs: Sequence[tuple[Path, Job]],
    kept: Path | None,
    processes: int,
    play: Callable[[Path, Job], Row] = play,
) -> list[Row]:
    """Return the row of each job in their order; rows are added to the file ``kept`` as they are made."""
    done = dict(_read(kept)) if kept is not None else {}
    missing = [(path, job) for path, job in jobs if not job.commit or job not in done]
    with ProcessPoolExecutor(processes) as pool:
        running = {pool.submit(play, path, job): job for path, job in missing}
        for future in as_completed(running):
            row = future.result()
            done[running[future]] = row
            if kept is not None:
                # The newline comes first: it parts the row from one that a killed run left torn.
                with kept.open("a", encoding="utf-8") as file:
                    file.write("\n" + json.dumps(row))
    return [done[job] for _, job in jobs]


def _read(kept: Path) -> Iterator[tuple[Job, Row]]:
    if not kept.exists():
        return
    for line in kept.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # torn by a kill, or empty: that row is played again
            continue
        yield Job(**row["job"]), row
