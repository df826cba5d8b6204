"""Kill the driver of a real quickstart sweep with SIGKILL, resume it, and count what was lost or doubled.

    python benchmarks/kill_and_resume.py --kills 3 --seed 0 [--out DIR]

Prints one JSON object: kills that hit a running sweep, cells by end state, cells that never ended, cells whose record
changed after they had ended, MLflow points missing or doubled against what the trials report, and the winner.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sweeper.adapters.study_cells import CellRecord
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepSummary
from sweeper.spool import Spool
from sweeper.sweep import open_ledger, reopen, summary_of

SPACE = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
NAME = "drill"


def drive(root: Path, *words: str, kill_after_s: float | None) -> bool:
    """Run one ``sweeper`` command; return whether it was killed before it ended."""
    with (root / f"{NAME}.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeper.cli", *words, "--plain"], cwd=root, stdout=log, stderr=log
        )
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
    return False


def cells(folder: SweepFolder) -> dict[str, CellRecord]:
    space, _ = reopen(folder)
    return {cell.name: cell for cell in open_ledger(folder, space).cells()}


def summary(folder: SweepFolder) -> SweepSummary:
    space, _ = reopen(folder)
    return summary_of(folder, space, open_ledger(folder, space))


def logged_steps(folder: SweepFolder) -> dict[str, list[int]]:
    """Return the steps of every trial's loss points in MLflow, by fingerprint."""
    import mlflow

    client = mlflow.MlflowClient(folder.mlflow_uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    found: dict[str, list[int]] = {}
    for run in runs:
        fingerprint = run.data.tags.get("sweeper.fingerprint")
        if fingerprint is not None:
            assert fingerprint not in found, "a trial has two runs"
            found[fingerprint] = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
    return found


def reported_steps(folder: SweepFolder) -> dict[str, list[int]]:
    """Return the samples seen at every optimizer step that a trial reported, by fingerprint."""
    spool = Spool(folder.path)
    found = {}
    for cell in cells(folder).values():
        events = spool.read(cell.fingerprint).events
        measured = [event.body["measurement"] for event in events if event.kind == "measured"]
        found[cell.fingerprint] = [point["samples_seen"] for one in measured for point in one["series"]]
    return found


def drill(root: Path, *, kills: int, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    folder = SweepFolder(root / "sweeps" / NAME)
    words = ["run", str(SPACE), "--sweep", NAME, "--set", f"train.seed={seed}"]
    landed, changed, ended = 0, 0, dict[str, str]()
    for attempt in range(kills + 1):
        last = attempt == kills
        hit = drive(root, *words, kill_after_s=None if last else draw.uniform(14, 30))
        landed += hit
        if folder.space.exists():
            words = ["resume", NAME]
            now = {name: repr(cell) for name, cell in cells(folder).items() if cell.state.is_final}
            changed += sum(now.get(name) != before for name, before in ended.items())
            ended = now
    logged, reported = logged_steps(folder), reported_steps(folder)
    found = summary(folder)
    return {
        "kills": landed,
        "states": dict(Counter(cell.state.value for cell in cells(folder).values())),
        "never_ended": sum(not TrialState(row.state).is_final for row in found.rows),
        "changed_after_their_end": changed,
        "points_missing": sum(len(set(reported[key]) - set(logged.get(key, []))) for key in reported),
        "points_doubled": sum(len(steps) - len(set(steps)) for steps in logged.values()),
        "points": sum(map(len, logged.values())),
        "attempts": sum(cell.attempts for cell in cells(folder).values()),
        "winner": found.best.name if found.best else None,
        "score": found.best.objective if found.best else None,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the sweep here; default: a temporary folder")
    arguments = parser.parse_args()
    root = arguments.out or Path(tempfile.mkdtemp(prefix="drill-"))
    root.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found = drill(root, kills=arguments.kills, seed=arguments.seed)
    print(json.dumps({**found, "elapsed_s": round(time.monotonic() - began, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
