"""What a sweep costs beside training: prunes in a row, trials beside bare Ray Tune, decisions at 2,000 trials.

    python -m benchmarks.overhead [--prunes 200] [--trials 40] [--decisions 2000]

Trials are scripted (``tests/scripted``): milestones take 20 ms and nothing is trained. Prints one JSON object per part.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
HEAD = """\
sweep: overhead
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}}
train: {engine: fsdp, ranks: 2}
eval: {milestones: 8}
pruner: []
"""
BARE = """
import json, sys, time
from ray import tune
import ray

class Bare(tune.Trainable):
    def setup(self, config):
        self.done = 0
    def step(self):
        self.done += 1
        time.sleep(0.02)
        return {"loss": 1.0 / self.done, "done": self.done == 8}
    def save_checkpoint(self, folder):
        return {}

ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
began = time.monotonic()
tune.Tuner(
    tune.with_resources(Bare, {"cpu": 2}),
    param_space={"x": tune.grid_search(list(range(int(sys.argv[1]))))},
    run_config=tune.RunConfig(storage_path=sys.argv[2], verbose=0),
).fit()
print("took", time.monotonic() - began)
"""


def scripted_sweep(root: Path, grid: dict[str, list[float]]) -> Path:
    """Run a scripted sweep to its end and return its folder."""
    (root / "space.yaml").write_text(HEAD + f"grid: {json.dumps(grid)}\n")
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests' / 'scripted'}{os.pathsep}{ROOT}"}
    environment |= {"SWEEPER_HOME": str(root), "SCRIPTED_MARKS": str(root / "struck")}
    words = ["run", "space.yaml", "--sweep", "sweep", "--plain"]
    subprocess.run([sys.executable, "-m", "sweeper.cli", *words], cwd=root, env=environment, check=False, stdout=-3)
    return root / "sweep"


def lives(folder: Path) -> list[tuple[float, float, str]]:
    """Return when each trial was opened and closed, in seconds, and how it ended; in order."""
    from sweeper.spool import SWEEP_KEY, Spool

    spool, found = Spool(folder), []
    for key in spool.held_keys():
        if key != SWEEP_KEY:
            events = spool.read(key).events
            opened = next(event.wall_time_ms for event in events if event.kind == "opened")
            closed = next(event for event in events if event.kind == "closed")
            found.append((opened / 1e3, closed.wall_time_ms / 1e3, str(closed.body["state"])))
    return sorted(found)


def prunes(count: int) -> dict[str, Any]:
    """Prune so many trials in a row by the guard, and time when the gang serves the next one."""
    root = Path(tempfile.mkdtemp(prefix="overhead-"))
    rates = [round(1.0 + 0.01 * place, 2) for place in range(count // 4)]
    found = lives(scripted_sweep(root, {"batch_size": [16, 32, 64, 128], "learning_rate": rates}))
    gaps = [max(0.0, later[0] - earlier[1]) for earlier, later in itertools.pairwise(found)]
    return {
        "part": "prunes",
        "trials": len(found),
        "pruned": sum(state == "pruned" for _, _, state in found),
        "free_after_s": {"median": float(np.median(gaps)), "p99": float(np.quantile(gaps, 0.99)), "max": max(gaps)},
    }


def beside_bare_tune(count: int) -> dict[str, Any]:
    """Run the same trivial trials as a sweep and on bare Ray Tune with fresh actors."""
    root = Path(tempfile.mkdtemp(prefix="overhead-"))
    rates = [1e-6 * (place + 1) for place in range(count // 4)]
    found = lives(scripted_sweep(root, {"batch_size": [16, 32, 64, 128], "learning_rate": rates}))
    pure_s = 8 * 0.02
    # From the second trial on: the first one pays for a cold gang, which no later one does.
    ours_s = (found[-1][1] - found[0][1]) / (len(found) - 1) - pure_s
    bare = subprocess.run(
        [sys.executable, "-c", BARE, str(count), str(root / "bare")], capture_output=True, text=True, check=True
    )
    bare_s = float(bare.stdout.split("took")[1]) / count - pure_s
    return {
        "part": "beside bare Tune",
        "trials": len(found),
        "overhead_per_trial_s": {"sweeper, gangs of 2": ours_s, "bare Tune, fresh actor": bare_s},
        "ratio": ours_s / bare_s,
        "cold_gang_s": found[0][1] - found[0][0],
    }


def decisions(trials: int) -> dict[str, Any]:
    """Judge so many trials of 8 milestones, as the driver does, and return decision times and memory growth."""
    from benchmarks.decide import drive_many

    seconds, cpu_seconds, memory = drive_many(Path(tempfile.mkdtemp(prefix="overhead-")), trials)
    half = len(memory) // 2
    return {
        "part": "decisions",
        "trials": trials,
        "decisions": len(seconds),
        "decision_ms": {"median": 1e3 * float(np.median(seconds)), "p99": 1e3 * float(np.quantile(seconds, 0.99))},
        "decision_cpu_ms": {
            "median": 1e3 * float(np.median(cpu_seconds)),
            "p99": 1e3 * float(np.quantile(cpu_seconds, 0.99)),
        },
        "last_tenth_p99_ms": 1e3 * float(np.quantile(seconds[-len(seconds) // 10 :], 0.99)),
        "rss_mb": {"start": memory[0], "half": memory[half], "end": memory[-1]},
        "kb_per_trial": 1e3 * (memory[-1] - memory[0]) / trials,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prunes", type=int, default=200)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--decisions", type=int, default=2000)
    arguments = parser.parse_args()
    began = time.monotonic()
    parts = ((prunes, arguments.prunes), (beside_bare_tune, arguments.trials), (decisions, arguments.decisions))
    for part, count in parts:
        if count:
            print(json.dumps(part(count)), flush=True)
    print(json.dumps({"elapsed_s": round(time.monotonic() - began)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
