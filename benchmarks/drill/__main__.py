"""Kill a sweep's driver, actors, ranks, nodes and services at random, many times, and count the damage.

    python -m benchmarks.drill --kills 100 --seed 0 [--real] [--kinds rank,node] [--minutes 60] [--out DIR]

Short sweeps of scripted trials (``--real``: of real training) follow each other until so many kills have struck. Prints
one line per sweep and a table at the end; the exit code is 1 where anything was lost, doubled, left behind or hung.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from benchmarks.drill.check import count, ended, last_event, sweep_folder, winner
from benchmarks.drill.place import ROOT, Place, place
from sweeper.core.layout import SweepFolder

SCRIPTED_SPACE = """\
sweep: drill
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}}
train: {engine: fsdp, ranks: 2, epochs: 4}
eval: {milestones: 8}
grid:
  batch_size: [16, 64, 256]
  learning_rate: [2.5e-4, 1e-3, 4e-3, 1.6e-2]
  schedule: [constant, cosine]
resources: {max_failures: 1000, hang_limit_s: 40, checkpoint_every: 2}
"""
KINDS = {"driver": 2, "trial actor": 3, "rank": 3, "frozen rank": 1, "node": 1, "mlflow": 2, "postgres": 3}
"""What is killed, and how often by comparison: a node or a frozen rank takes half a minute to recover from."""
BAD = ("entered_twice", "not_ended", "failed", "points_lost", "points_doubled", "changed_after_end", "hung")
BAD += ("other_winner", "groups_left", "processes_left")
TRIAL_ACTOR = "ray::ResourceTrainable"
"""Title of the process of ``GangTrainable``, as Tune names a trainable with resources."""
STUCK_S = 420.0
"""A sweep of which nothing ends and nothing is reported for so long hangs."""


class Drill:
    """Runs sweeps one after another and strikes them."""

    def __init__(self, place: Place, root: Path, draw: random.Random, kinds: list[str], *, pause_s: float) -> None:
        self._kinds = kinds
        self._place = place
        self._root = root
        self._draw = draw
        self._pause_s = pause_s
        self.struck: Counter[str] = Counter()
        self._driver: subprocess.Popen[bytes] | None = None

    def sweep(self, name: str, kills: int) -> Counter[str]:
        """Run one sweep to its end with at most so many kills, and return what is wrong with it."""
        folder = sweep_folder(self._root, name)
        found: Counter[str] = Counter()
        try:
            self._run_and_strike(folder, kills, found)
        except (TimeoutError, subprocess.TimeoutExpired):
            found["hung"] += 1
        found += count(folder, self._place.mlflow_store)
        found["groups_left"] = self._place.placement_groups()
        found["processes_left"] = self._left()
        return found

    def _run_and_strike(self, folder: SweepFolder, kills: int, found: Counter[str]) -> None:
        words = ["run", str(self._root / "space.yaml"), "--sweep", folder.name]
        before: dict[str, str] = {}
        code = None
        while code not in (0, 1):
            self._drive(words)
            kills, code = self._strike(kills, folder)
            found["drivers_refused"] += code == 2
            if folder.space.exists():
                words = ["resume", folder.name]
                now = ended(folder)
                found["changed_after_end"] += sum(now.get(key) != value for key, value in before.items())
                before = now
        self._place.wait_for_mlflow()
        self._run_to_end(["resume", folder.name])

    def _drive(self, words: list[str]) -> None:
        with (self._root / "driver.log").open("ab") as log:
            command = [sys.executable, "-m", "sweeper.cli", *words, "--plain", "--address", self._place.address]
            self._driver = subprocess.Popen(command, cwd=self._root, stdout=log, stderr=log)

    def _strike(self, kills: int, folder: SweepFolder) -> tuple[int, int | None]:
        """Kill things until the driver has ended, or was killed; return the kills left and the driver's exit code."""
        assert self._driver is not None
        began = time.time()
        while True:
            try:
                return kills, self._driver.wait(self._draw.uniform(0.3, 1.7) * self._pause_s)
            except subprocess.TimeoutExpired:
                pass
            if time.time() - max(began, last_event(folder)) > STUCK_S:
                self._driver.kill()
                raise TimeoutError(f"nothing has happened for {STUCK_S:.0f} s")
            if kills <= 0 or not folder.space.exists():
                continue
            (kind,) = self._draw.choices(self._kinds, [KINDS[kind] for kind in self._kinds])
            if self._kill(kind):
                self.struck[kind] += 1
                kills -= 1
                print(f"  {kind}", flush=True)
            if kind == "driver":
                self._driver.wait()
                return kills, None

    def _kill(self, kind: str) -> bool:
        assert self._driver is not None
        if kind == "driver":
            self._driver.kill()
        elif kind == "node":
            self._place.kill_node(self._draw.randrange(2))
        elif kind == "mlflow":
            self._place.kill_mlflow()
            time.sleep(self._draw.uniform(0, 5))
            self._place.start_mlflow()
        elif kind == "postgres":
            self._place.kill_postgres(self._draw.uniform(0, 5))
        elif kind == "trial actor":
            return self._place.kill_process(TRIAL_ACTOR, self._draw.choice)
        else:
            number = signal.SIGSTOP if kind == "frozen rank" else signal.SIGKILL
            return self._place.kill_process("ray::Rank", self._draw.choice, number)
        return True

    def _run_to_end(self, words: list[str]) -> None:
        self._drive(words)
        assert self._driver is not None
        self._driver.wait(STUCK_S)

    def close(self) -> None:
        """Leave no driver behind, whatever became of the drill."""
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()

    def _left(self) -> int:
        """Return our processes of trials that are still there ten seconds after the sweep."""
        deadline = time.monotonic() + 10
        while (left := len(self._place.processes("ray::Rank") + self._place.processes(TRIAL_ACTOR))) > 0:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return left


def drill(root: Path, arguments: argparse.Namespace) -> Counter[str]:
    """Return everything that was counted."""
    draw, real, kills = random.Random(arguments.seed), arguments.real, arguments.kills
    total: Counter[str] = Counter()
    deadline = time.monotonic() + 60 * arguments.minutes
    with place(root, scripted=not real, slots=2) as found:
        (root / "space.yaml").write_text(space_text(found, real=real) + arguments.more + "\n")
        one = Drill(found, root, draw, arguments.kinds.split(","), pause_s=arguments.pause_s)
        with closing(one):
            total += tell("undisturbed", one.sweep("undisturbed", 0), Counter())
            expected = winner(sweep_folder(root, "undisturbed"))
            while sum(one.struck.values()) < kills and time.monotonic() < deadline:
                name, before = f"drilled-{total['sweeps']}", Counter(one.struck)
                wrong = one.sweep(name, min(10, kills - sum(one.struck.values())))
                wrong["other_winner"] = int(winner(sweep_folder(root, name)) != expected)
                total += tell(name, wrong, one.struck - before)
        total += Counter({f"killed {kind}": times for kind, times in one.struck.items()})
    return total


def space_text(found: Place, *, real: bool) -> str:
    tracking = f"tracking: {{mlflow: '{found.mlflow_uri}', study: '{found.study_uri}'}}\n"
    if not real:
        return SCRIPTED_SPACE + tracking
    text = (ROOT / "search_spaces" / "quickstart.yaml").read_text()
    head = text[: text.index("\ngrid:")]
    grid = "grid: {batch_size: [64, 256], learning_rate: [5.0e-4, 2.0e-3, 0.3]}\n"
    kept = "resources: {max_failures: 1000, hang_limit_s: 120, checkpoint_every: 1}\norder: {calibration: 2}\n"
    return f"{head}\n{grid}{kept}{tracking}"


def tell(name: str, found: Counter[str], struck: Counter[str]) -> Counter[str]:
    found["sweeps"] = 1
    print(name, json.dumps({"struck": dict(struck), **{k: v for k, v in found.items() if v}}), flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="real training instead of scripted trials")
    parser.add_argument("--minutes", type=float, default=90.0, help="start no further sweep after so long")
    parser.add_argument("--kinds", default=",".join(KINDS), help="default: %(default)s")
    parser.add_argument("--pause-s", type=float, default=6.0, help="mean time between two kills")
    parser.add_argument("--more", default="", help="further lines of the search space, as 'mode: promote'")
    parser.add_argument("--out", type=Path, help="keep the sweeps here; default: a temporary folder")
    arguments = parser.parse_args()
    root = (arguments.out or Path(tempfile.mkdtemp(prefix="drill-"))).resolve()
    root.mkdir(parents=True, exist_ok=True)
    os.environ["SWEEPER_HOME"] = str(root / "sweeps")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it otherwise
    began = time.monotonic()
    total = drill(root, arguments)
    for key in sorted(total, key=lambda key: (key in BAD, key)):
        print(f"{key:20s} {total[key]}")
    print(f"{'elapsed_s':20s} {time.monotonic() - began:.0f}")
    wrong = sum(total[key] for key in BAD)
    print("sound" if not wrong else f"WRONG: {wrong}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
