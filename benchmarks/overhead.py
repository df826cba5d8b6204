"""What a sweep costs beside training: prunes in a row, long trials, beside bare Ray Tune, 2,000 trials, decisions.

    python -m benchmarks.overhead [--prunes 200] [--long 100] [--beside 40] [--trials 2000] [--decisions 2000]

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
MILESTONES = 8
MILESTONE_S = 0.02
LONG_TRIAL_S = 300.0
WORKERS = 2
HEAD = """\
sweep: overhead
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}}
eval: {milestones: 8}
"""
BARE = """
import sys, time
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
    tune.with_resources(Bare, {"cpu": 1}),
    param_space={"x": tune.grid_search(list(range(int(sys.argv[1]))))},
    run_config=tune.RunConfig(storage_path=sys.argv[2], verbose=0),
).fit()
print("took", time.monotonic() - began)
"""
KB_PER_TRIAL = 150.0
"""Bound on the growth of the driver's memory: a trial's record in the study and in Tune, 8 milestones each."""


def scripted_sweep(
    count: int, *, ranks: int, pruner: str = "[]", lowest_rate: float = 1e-6, told_s: float | None = None
) -> tuple[Path, list[dict[str, Any]], float]:
    """Run a sweep of so many scripted trials to its end, on ``WORKERS`` slots.

    Returns:
        its folder, what ``benchmarks.timed_driver`` wrote, and the seconds of the whole command.
    """
    root = Path(tempfile.mkdtemp(prefix="overhead-"))
    rates = [lowest_rate * (1 + 0.01 * place) for place in range(count // 4)]
    grid = json.dumps({"batch_size": [16, 32, 64, 128], "learning_rate": rates})
    engine = "fsdp" if ranks > 1 else "single"
    train = f"train: {{engine: {engine}, ranks: {ranks}}}\n"
    (root / "space.yaml").write_text(f"{HEAD}{train}pruner: {pruner}\ngrid: {grid}\n")
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests' / 'scripted'}{os.pathsep}{ROOT}"}
    environment |= {"SWEEPER_HOME": str(root), "SCRIPTED_MARKS": str(root / "struck")}
    environment |= {} if told_s is None else {"SCRIPTED_TOLD_S": str(told_s)}
    words = ["run", "space.yaml", "--sweep", "sweep", "--plain"]
    command = [sys.executable, "-m", "benchmarks.timed_driver", str(root / "timed.jsonl"), *words]
    began = time.monotonic()
    subprocess.run(command, cwd=root, env=environment, check=False, stdout=-3)
    elapsed_s = time.monotonic() - began
    return root / "sweep", list(map(json.loads, (root / "timed.jsonl").read_text().splitlines())), elapsed_s


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


def last_measured(folder: Path) -> list[dict[str, Any]]:
    """Return the body of the last measurement of every trial."""
    from sweeper.spool import SWEEP_KEY, Spool

    spool = Spool(folder)
    events = (spool.read(key).events for key in spool.held_keys() if key != SWEEP_KEY)
    return [dict([event.body for event in each if event.kind == "measured"][-1]) for each in events]


def prunes(count: int) -> dict[str, Any]:
    """Prune so many trials in a row by the guard, and time when the gang serves the next one."""
    found = lives(scripted_sweep(count, ranks=2, lowest_rate=1.0)[0])
    gaps = [max(0.0, later[0] - earlier[1]) for earlier, later in itertools.pairwise(found)]
    return {
        "part": "prunes",
        "trials": len(found),
        "pruned": sum(state == "pruned" for _, _, state in found),
        "free_after_s": {"median": float(np.median(gaps)), "p99": float(np.quantile(gaps, 0.99)), "max": max(gaps)},
    }


def long_trials(count: int) -> dict[str, Any]:
    """Let each trial stand for one of ``LONG_TRIAL_S``, and set the sweep's real cost against that.

    ``ratio`` is (the command's seconds, less those its trials slept for, per worker) over (seconds of training that the
    study holds, per worker): what the sweep adds from its first import to its report, cold gangs and all.
    """
    folder, timed, elapsed_s = scripted_sweep(count, ranks=1, told_s=LONG_TRIAL_S / MILESTONES)
    told_s = [event["measurement"]["train_s"] for event in last_measured(folder)]
    slept_s = count * MILESTONES * MILESTONE_S / WORKERS
    return {
        "part": "long trials",
        "trials": len(told_s),
        "shortest_trial_s": min(told_s),
        "command_s": elapsed_s,
        "tune_s": seconds_of(timed, "fit")[0],
        "added_s": elapsed_s - slept_s,
        "ratio": (elapsed_s - slept_s) / (sum(told_s) / WORKERS),
    }


def beside_bare_tune(count: int) -> dict[str, Any]:
    """Run the same trials as a sweep and on bare Ray Tune with fresh actors: both record, on two workers each.

    Both are timed from the call of ``Tuner.fit`` to its return, so with their cold starts.
    """
    _, timed, _ = scripted_sweep(count, ranks=1)
    folder = tempfile.mkdtemp(prefix="overhead-bare-")
    bare = subprocess.run([sys.executable, "-c", BARE, str(count), folder], capture_output=True, text=True, check=True)
    pure_s = MILESTONES * MILESTONE_S / WORKERS
    ours_s = seconds_of(timed, "fit")[0] / count - pure_s
    bare_s = float(bare.stdout.split("took")[1]) / count - pure_s
    return {
        "part": "beside bare Tune",
        "trials": count,
        "overhead_per_trial_s": {"sweeper": ours_s, "bare Tune, fresh actors": bare_s},
        "ratio": ours_s / bare_s,
    }


def many_trials(count: int) -> dict[str, Any]:
    """Run a large sweep on Ray to its end: what decisions take in the driver itself, and how its memory grows."""
    folder, timed, elapsed_s = scripted_sweep(count, ranks=1, pruner="[median]")
    memory = [line["rss_mb"] for line in timed if line["kind"] == "end"]
    grown_kb = 1e3 * (memory[-1] - memory[0]) / len(memory)
    return {
        "part": "many trials",
        "trials": len(lives(folder)),
        "command_s": elapsed_s,
        "tune_s": seconds_of(timed, "fit")[0],
        **{f"{kind}_ms": milliseconds(seconds_of(timed, kind)) for kind in ("result", "end", "propose")},
        **{f"{kind}_cpu_ms": milliseconds(seconds_of(timed, kind, "cpu_s")) for kind in ("result", "end", "propose")},
        "rss_mb": {"first": memory[0], "half": memory[len(memory) // 2], "last": memory[-1]},
        "kb_per_trial": grown_kb,
        "within_bound": grown_kb <= KB_PER_TRIAL,
    }


def seconds_of(timed: list[dict[str, Any]], kind: str, key: str = "seconds") -> list[float]:
    return [float(line[key]) for line in timed if line["kind"] == kind]


def milliseconds(seconds: list[float]) -> dict[str, float]:
    return {"median": 1e3 * float(np.median(seconds)), "p99": 1e3 * float(np.quantile(seconds, 0.99))}


def decisions(trials: int) -> dict[str, Any]:
    """Judge so many trials of 8 milestones, as the driver does, and return decision times and memory growth."""
    from benchmarks.decide import drive_many

    seconds, cpu_seconds, memory = drive_many(Path(tempfile.mkdtemp(prefix="overhead-")), trials)
    half = len(memory) // 2
    return {
        "part": "decisions",
        "trials": trials,
        "decisions": len(seconds),
        "decision_ms": milliseconds(seconds),
        "decision_cpu_ms": milliseconds(cpu_seconds),
        "last_tenth_p99_ms": 1e3 * float(np.quantile(seconds[-len(seconds) // 10 :], 0.99)),
        "rss_mb": {"start": memory[0], "half": memory[half], "end": memory[-1]},
        "kb_per_trial": 1e3 * (memory[-1] - memory[0]) / trials,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {
        "prunes": (prunes, 200),
        "long": (long_trials, 100),
        "beside": (beside_bare_tune, 40),
        "trials": (many_trials, 2000),
        "decisions": (decisions, 2000),
    }
    for name, (_, count) in parts.items():
        parser.add_argument(f"--{name}", type=int, default=count, help="0 leaves it out")
    arguments = vars(parser.parse_args())
    began = time.monotonic()
    for name, (part, _) in parts.items():
        if arguments[name]:
            print(json.dumps(part(arguments[name])), flush=True)
    print(json.dumps({"elapsed_s": round(time.monotonic() - began)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
