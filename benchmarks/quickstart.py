"""Run the quickstart for several seeds, pruned and in full, and print what it took and what it found.

    python benchmarks/quickstart.py --seeds 0 1 2 [--full] [--out DIR]

For each seed: seconds from start to end, cells ended by guards and by pruners, the winner's score against the median
cell's, and how long a cold and a warm trial took from the previous trial's end to its first optimizer step. With
``--full`` the same grid also runs unpruned, which gives every cell's final score and so the winner's true rank.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sweeper.core.layout import SweepFolder
from sweeper.core.record import SweepSummary
from sweeper.pruners.compose import GUARDS
from sweeper.spool import SWEEP_KEY
from sweeper.sweep import open_ledger, reopen, summary_of

SPACE = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds from the previous trial's end (the sweep's opening for the first) to the first optimizer step."""

    cold_s: float
    warm_s: tuple[float, ...]


def run_sweep(root: Path, seed: int, *, full: bool) -> tuple[SweepFolder, float]:
    """Run the quickstart in a folder of its own; return it and the seconds it took, process start included."""
    name = f"seed{seed}-{'full' if full else 'pruned'}"
    command = [sys.executable, "-m", "sweeper.cli", "run", str(SPACE), "--sweep", name, "--plain"]
    command += ["--set", f"train.seed={seed}", *(["--set", "pruner=[]"] if full else [])]
    began = time.monotonic()
    with (root / f"{name}.log").open("w") as log:
        subprocess.run(command, cwd=root, stdout=log, stderr=log, check=True)
    return SweepFolder(root / "sweeps" / name), time.monotonic() - began


def summary(folder: SweepFolder) -> SweepSummary:
    space, _ = reopen(folder)
    return summary_of(folder, space, open_ledger(folder, space))


def starts(folder: SweepFolder) -> Starts:
    """Read the start-up times off the sweep's own record."""
    spool = folder.path / "spool"
    opened_ms = _events(spool / f"{SWEEP_KEY}.jsonl", "sweep_opened")[0]["wall_time_ms"]
    first_steps, ends = [], []
    for path in spool.glob("*.jsonl"):
        if path.stem == SWEEP_KEY:
            continue
        first = _events(path, "measured")[0]
        spent_ms = 1000 * (first["measurement"]["train_s"] + first["measurement"]["eval_s"])
        first_steps.append(first["wall_time_ms"] - spent_ms)
        ends.append(_events(path, "closed")[0]["wall_time_ms"])
    first_steps.sort()
    ends.sort()
    warm = tuple((step - end) / 1000 for step, end in zip(first_steps[1:], ends, strict=False))
    return Starts(cold_s=(first_steps[0] - opened_ms) / 1000, warm_s=warm)


def _events(path: Path, kind: str) -> list[dict]:  # type: ignore[type-arg]
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [event for event in events if event["kind"] == kind]


def report(seed: int, root: Path, *, full: bool) -> dict[str, object]:
    folder, elapsed_s = run_sweep(root, seed, full=False)
    found = summary(folder)
    assert found.best is not None
    assert found.best.objective is not None
    timing = starts(folder)
    row: dict[str, object] = {
        "seed": seed,
        "elapsed_s": round(elapsed_s, 1),
        "cells": len(found.rows),
        "by_guard": sum(n for rule, n in found.rules.items() if rule in GUARDS),
        "by_pruner": sum(n for rule, n in found.rules.items() if rule not in GUARDS),
        "saved": round(found.saved_samples_share, 3),
        "best": found.best.name,
        "score": round(found.best.objective, 4),
        "median_of_last_scores": round(statistics.median(r.objective or 0.0 for r in found.rows), 4),
        "cold_start_s": round(timing.cold_s, 2),
        "warm_start_median_s": round(statistics.median(timing.warm_s), 3),
        "warm_start_max_s": round(max(timing.warm_s), 3),
    }
    if full:
        unpruned = summary(run_sweep(root, seed, full=True)[0])
        finals = sorted((r.objective or 0.0 for r in unpruned.rows if r.state == "complete"), reverse=True)
        finals += [0.0] * sum(r.state != "complete" for r in unpruned.rows)
        row["median_of_full_grid"] = round(statistics.median(finals), 4)
        row["best_of_full_grid"] = round(finals[0], 4)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--full", action="store_true", help="also run every cell to its end")
    parser.add_argument("--out", type=Path, help="keep the sweeps here; default: a temporary folder")
    arguments = parser.parse_args()
    root = arguments.out or Path(tempfile.mkdtemp(prefix="bench-quickstart-"))
    root.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        print(json.dumps(report(seed, root, full=arguments.full)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
