"""``python -m benchmarks.promote_live --curves GRID.jsonl``: mode promote against mode stop on one gang, live.

Plays a recorded LoRA grid (batch size, learning rate and rank, every combination once) as a live sweep: real Ray, real
study, real checkpoints of scripted trials. Prints one JSON object per mode: what the sweep had spent, as a share of the
whole grid's cost, when the best configuration or a tie with it had run to its end, the cost of each save and restore
included; and, for promote, whether the live sweep made the same decisions in the same order as the replayed one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.pruners.promote import reached
from sweeper.core.space import cell_name
from sweeper.core.verdict import Verdict
from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import Grid, Point, RecordedTrial, load_curves
from sweeper.replay.promoted import PauseCosts, PromotedSweep
from sweeper.replay.score import saved
from sweeper.replay.simulate import simulate
from sweeper.replay.simulated import Ending

ROOT = Path(__file__).parents[1]
UNIT = 64
"""Samples of one recorded report: whole batches of every size that the grids hold."""
AXES = {"lora_rank": "lora.rank", "batch_size": "batch_size", "learning_rate": "learning_rate"}
"""Recorded name and ours, the axis that varies slowest first."""
_LINE = re.compile(r" *[\d.]+s +\d+/\d+ (start|at|pause|go on|done|pruned) +(\S+)  ([\d,]+)/")

Step = tuple[Literal["at", "end"], str, int]
"""A report, or an end, of a trial at so many samples."""


class PlannedGrid(Grid):
    """A grid of which it was known how long a trial lasts at most, as it is of a live sweep."""

    __slots__ = ()

    @property
    def planned(self) -> int:
        return max(trial.cost for trial in self.trials)


@dataclass(frozen=True, slots=True)
class Event:
    """A line that a sweep has printed."""

    kind: str
    trial: str
    samples: int


def as_live(grid: Grid) -> PlannedGrid:
    """Return the grid as a live sweep measures it.

    A trial's last value is its best one, as of a trainer that brings back its best checkpoint at its end.
    """
    trials = []
    for trial in grid.trials:
        points = [_point(point, point.signals["objective"]) for point in trial.points[:-1]]
        points.append(_point(trial.points[-1], trial.final))
        config = {ours: trial.config[theirs] for theirs, ours in AXES.items()}
        trials.append(RecordedTrial(name=cell_name(config), config=config, final=trial.final, points=tuple(points)))
    return PlannedGrid(name=grid.name, direction=grid.direction, best_counts=False, trials=tuple(trials))


def _point(point: Point, objective: float) -> Point:
    signals = {"objective": objective, "train_loss": objective, "grad_norm": objective}
    return replace(point, resource=UNIT * point.resource, signals=signals, first_loss=objective)


class TracedSweep(PromotedSweep):
    """Writes down every report and end in its order."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.steps: list[Step] = []

    def _go_on(self, index: int, place: int, samples_seen: int) -> None:
        self.steps.append(("at", self._grid.trials[index].name, samples_seen))
        super()._go_on(index, place, samples_seen)

    def _end(self, index: int, samples_seen: int, verdict: Verdict) -> None:
        name = self._grid.trials[index].name
        if samples_seen > self._samples(index):  # else it ends where it rests
            self.steps.append(("at", name, samples_seen))
        self.steps.append(("end", name, samples_seen))
        super()._end(index, samples_seen, verdict)


def run_live(grid: PlannedGrid, mode: str, pruner: str, seed: int, folder: Path) -> list[Event]:
    """Run the sweep on one gang and return what it printed."""
    curves = folder / "curves.jsonl"
    rows = [{}, *(_row(trial) for trial in grid.trials)]
    curves.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {name: list(dict.fromkeys(t.config[name] for t in grid.trials)) for name in AXES.values()}
    space = {
        "sweep": mode,
        "model": {"path": "builtin:quickstart"},
        "data": {"train": "builtin:quickstart/train", "test": {"new": "builtin:quickstart/new"}},
        "train": {"engine": "single", "ranks": 1},
        "eval": {"milestones": grid.planned // UNIT},
        "mode": mode,
        "pruner": json.loads(pruner),
        "order": {"seed": seed},
        "resources": {"cpus_per_rank": os.cpu_count()},  # one gang at a time
        "grid": values,
    }
    (folder / f"{mode}.yaml").write_text(json.dumps(space))
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'tests' / 'scripted'}{os.pathsep}{ROOT}",
        "SCRIPTED_CURVES": str(curves),
        "SCRIPTED_OWN_ENDS": "1",
        "SCRIPTED_SAMPLES": str(grid.planned),
        "SCRIPTED_TOLD_S": "1000",  # training is dear: every state is kept
        "SCRIPTED_MARKS": str(folder / "marks"),
    }
    command = [sys.executable, "-m", "sweeper.cli", "run", f"{mode}.yaml", "--plain"]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = (_LINE.match(line) for line in done.stdout.splitlines())
    return [Event(m[1], m[2], int(m[3].replace(",", ""))) for m in found if m is not None]


def _row(trial: RecordedTrial) -> dict[str, Any]:
    config = {"warmup_samples": 0, "schedule": "constant", **trial.config, "lora_rank": trial.config["lora.rank"]}
    return {"config": config, "curve": [point.signals for point in trial.points]}


def ending_of(grid: Grid, events: list[Event], costs: PauseCosts) -> Ending:
    """Return what the events cost and brought, with saves and restores at these shares of a milestone."""
    places = {trial.name: index for index, trial in enumerate(grid.trials)}
    stopped: list[int | None] = [0] * len(places)
    completed: list[float | None] = [None] * len(places)
    seen = dict.fromkeys(places, 0)
    spent = 0.0
    for event in events:
        if event.kind == "at":
            spent += event.samples - seen[event.trial] if event.samples > seen[event.trial] else UNIT
            seen[event.trial] = max(seen[event.trial], event.samples)
        spent += {"pause": costs.save, "go on": costs.restore}.get(event.kind, 0.0) * UNIT
        if event.kind == "done":
            stopped[places[event.trial]], completed[places[event.trial]] = None, spent
        elif event.kind == "pruned":
            stopped[places[event.trial]] = event.samples
    verdicts = (None,) * len(places)
    return Ending(stopped_at=tuple(stopped), verdicts=verdicts, spent=spent, completed_at=tuple(completed))


def steps_of(events: list[Event]) -> Iterator[Step]:
    for event in events:
        if event.kind == "at":
            yield "at", event.trial, event.samples
        elif event.kind in ("done", "pruned"):
            yield "end", event.trial, event.samples


def row(grid: Grid, mode: str, ending: Ending) -> dict[str, Any]:
    return {
        "mode": mode,
        "reached": round(reached(grid, ending), 4),
        "saved": round(saved(grid, ending.stopped_at, ending.spent), 4),
        "completed": sum(cost is not None for cost in ending.completed_at),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promote_live", description=__doc__)
    parser.add_argument("--curves", type=Path, required=True, help="a recorded LoRA grid, format curves/1")
    parser.add_argument("--pruner", default='[{"calibrated": {"risk": 0.02}}]', help="as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cost", type=float, default=0.1, help="of a save and of a restore, shares of a milestone")
    parser.add_argument("--modes", default="replayed,promote,stop")
    args = parser.parse_args()
    grid = as_live(load_curves(args.curves))
    costs = PauseCosts(save=args.cost, restore=args.cost)

    def pruner() -> Any:
        return from_spec(json.loads(args.pruner), direction=grid.direction)

    replayed = TracedSweep(grid, pruner(), seed=args.seed, costs=costs, start="centre")
    expected = row(grid, "promote, replayed", replayed.run(1))
    stop = simulate(grid, pruner(), seed=args.seed, start="centre")
    for found in (expected, row(grid, "stop, replayed", stop)):
        print(json.dumps(found), flush=True)
    for mode in [each for each in args.modes.split(",") if each in ("promote", "stop")]:
        with tempfile.TemporaryDirectory() as folder:
            events = run_live(grid, mode, args.pruner, args.seed, Path(folder))
        live = row(grid, f"{mode}, live", ending_of(grid, events, costs))
        live["pauses"] = sum(event.kind == "pause" for event in events)
        if mode == "promote":
            live["same_decisions"] = list(steps_of(events)) == replayed.steps
            live["decisions"] = len(replayed.steps)
        print(json.dumps(live), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
