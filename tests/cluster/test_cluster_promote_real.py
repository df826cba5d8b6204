"""Mode promote with real training on a gang of two processes: a paused trial ends as one that never paused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.adapters.ray.states import GIB, memory_folder, size_of
from sweeper.adapters.yaml_space import load_space
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.pruners.record import measurement_of, milestone_key
from sweeper.sweep import open_ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from test_sweep_scripted import logged_points

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

SPACE = """\
sweep: promoted
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}, max_length: 64}
train: {engine: fsdp, ranks: 2, epochs: 0.5, batch_size: 32, schedule: cosine, warmup_steps: 5}
eval: {milestones: 8}
pruner: []
order: {calibration: 0}
grid: {learning_rate: [5.0e-4, 2.0e-3, 1.0e-2]}
"""
MILESTONES, STEPS = 8, 48
STATE_BYTES = 2_500_000
"""A state takes 1.6 MB for the weights and their optimizer: one has room in so much, two have not."""
TIMED = {"train_s": 0.0, "eval_s": 0.0, "peak_memory_bytes": 0}
TIMED_EXTRA = ("tokens_per_s", "data_wait_share", "cpu_cores", "model_flops_per_s", "mfu")


def start(folder: Path, name: str, *more: str) -> subprocess.Popen[str]:
    (folder / "space.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "sweeper.cli", "run", "space.yaml", "--plain", "--sweep", name, *more]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def measured(folder: SweepFolder) -> dict[str, list[Measurement]]:
    """Return what was measured at each milestone of each cell, without what no two runs share."""
    ledger = open_ledger(folder, load_space(folder.space)[0])
    assert {cell.state for cell in ledger.cells()} == {TrialState.COMPLETE}
    found = {}
    for cell in ledger.cells():
        attrs = ledger.trial(cell.fingerprint).user_attrs
        each = [measurement_of(attrs[milestone_key(place)]) for place in range(1, MILESTONES + 1)]
        found[cell.name] = [replace(one, **TIMED, extra=untimed(one.extra), series=()) for one in each]
    return found


def untimed(extra: Any) -> dict[str, float]:
    return {key: value for key, value in extra.items() if key not in TIMED_EXTRA}


def most_kept(process: subprocess.Popen[str], folders: list[Path]) -> list[int]:
    """Return the most bytes that were ever seen in each folder until the process has ended."""
    most = [0] * len(folders)
    while process.poll() is None:
        time.sleep(0.02)
        for place, folder in enumerate(folders):
            try:
                most[place] = max(most[place], size_of(folder))
            except FileNotFoundError:  # deleted meanwhile
                continue
    return most


def test_a_paused_trial_measures_what_one_does_that_never_paused(tmp_path: Path) -> None:
    alone = start(tmp_path, "alone")
    out, _ = alone.communicate()
    assert alone.returncode == 0, out

    folder = SweepFolder(tmp_path / "sweeps/promoted")
    memory, disk = memory_folder(folder.path), folder.path / "paused"
    room = ["--set", f"resources.paused_memory_gib={STATE_BYTES / GIB}"]
    room += ["--set", f"resources.paused_disk_gib={STATE_BYTES / GIB}"]
    promoted = start(tmp_path, "promoted", "--set", "mode=promote", *room)
    in_memory, on_disk = most_kept(promoted, [memory, disk])
    out, _ = promoted.communicate()
    assert promoted.returncode == 0, out
    assert out.count(" pause ") >= 2, out
    assert 0 < in_memory <= STATE_BYTES
    assert 0 < on_disk <= STATE_BYTES
    assert not memory.exists()
    assert not disk.exists()
    found, points = measured(folder), logged_points(folder.path)
    assert found == measured(SweepFolder(tmp_path / "sweeps/alone"))
    for name in found:
        assert len(points[name]) == len(set(points[name])) == STEPS, name
