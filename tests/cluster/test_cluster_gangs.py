"""Gangs of several sizes share a cluster: large ones are not starved, and small ones use what these leave."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_cluster_address import head_node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SLOTS = 4
SPACE = """\
sweep: mixed
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}}
train: {engine: fsdp, batch_size: 16}
eval: {milestones: 8}
pruner: []
order: {calibration: 2}
grid: {ranks: [1, 3], learning_rate: [1e-5, 1e-4, 1e-3, 3e-3]}
"""
EVENT = re.compile(r"^ *\S+s +\d+/\d+ (start|done) +ranks=(\d)-(\S+)", re.MULTILINE)


def test_large_gangs_take_turns_while_small_ones_use_what_they_leave(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    words = ["run", "space.yaml", "--plain", "--address", "auto", "--sweep", "mixed"]
    command = [sys.executable, "-m", "sweeper.cli", *words]
    with head_node(SLOTS, SCRIPTED_MILESTONE_S="0.1", SCRIPTED_BY_RANKS="1") as environment:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    running: dict[str, int] = {}
    waiting = [ranks for ranks in (1, 3) for _ in range(4)]
    beside = 0
    for event, ranks, name in EVENT.findall(done.stdout):
        size = int(ranks)
        if event == "start":
            beside += size == 1 and 3 in running.values() and 3 in waiting
            waiting.remove(size)
            running[f"{ranks} {name}"] = size
        else:
            del running[f"{ranks} {name}"]
        assert sum(running.values()) <= SLOTS, done.stdout
    assert (waiting, running) == ([], {}), done.stdout
    assert beside >= 2, f"small gangs began though a large one waited\n{done.stdout}"
