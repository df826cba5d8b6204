"""From nothing to a finished sweep with no edit: ``init``, ``plan``, ``run`` on real chats."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = os.environ.get("SFT_DATA")
"""Folder that holds gsm8k/train.jsonl and gsm8k/test.jsonl; the chats are not part of the project."""
CHATS = 24
"""Taken of each; SFT_ALL=1 takes all, which is hours on a CPU."""
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(SHARED is None, reason="needs real chats: SFT_DATA=FOLDER with gsm8k/{train,test}.jsonl"),
]


def sweeper(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sweeper.cli", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_init_plan_and_run_work_on_gsm8k_without_an_edit(tmp_path: Path) -> None:
    for name, count in (("train", CHATS), ("test", CHATS // 4)):
        lines = (Path(str(SHARED)) / "gsm8k" / f"{name}.jsonl").read_text().splitlines(keepends=True)
        taken = lines if "SFT_ALL" in os.environ else lines[:count]
        (tmp_path / f"{name}.jsonl").write_text("".join(taken))
    written = sweeper(
        tmp_path, "init", "--model", "builtin:quickstart", "--train", "train.jsonl", "--test", "test.jsonl"
    )
    assert "next: sweeper plan space.yaml" in written
    planned = sweeper(tmp_path, "plan", "space.yaml")
    assert "0 infeasible" in planned
    ended = sweeper(tmp_path, "run", "space.yaml", "--plain", "--sweep", "first")
    assert "best" in ended
    assert (tmp_path / "sweeps" / "first" / "best.yaml").is_file()
    again = sweeper(tmp_path, "plan", "space.yaml", "--from", "first")
    assert "speed learned from" in again
