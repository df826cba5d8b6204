"""``python -m trials --checkpoints``: killed in the middle of a write and resumed, a trial ends as one left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from trial_cases import config, save_model, write_chats

from sweeper.core.decode import encode
from sweeper.core.measurement import Measurement
from trials import checkpoint
from trials.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that writing its state takes a while: 12 MB."""
    return save_model(tmp_path_factory.mktemp("resume") / "model", hidden_size=256, intermediate_size=512)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write_config(model: Path, **settings: Any) -> Path:
    chats = write_chats(Path("train.jsonl"), 24).absolute()
    one = config(model, chats, {"t": chats}, **({"milestones": 6, "epochs": 2, "max_samples": 4} | settings))
    file = Path(f"{one.train.engine}-{one.train.ranks}.yaml")
    file.write_text(yaml.safe_dump(encode(one)))
    return file


def points(folder: str) -> list[tuple[int, float, float]]:
    lines = (Path(folder) / "measurements.jsonl").read_text().splitlines()
    found = [Measurement.from_json(json.loads(line)) for line in lines]
    return [(point.step, point.loss, point.grad_norm) for one in found for point in one.series]


def kill_while_writing(file: Path, root: Path, *more: str) -> None:
    """Start the trial and kill all its processes once it writes its third checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trials", str(file), "--out", "killed", "--checkpoints", str(root), *more],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (root / ".step-000000003.unfinished" / "engine").is_dir():
        assert process.poll() is None, "it must be caught at its third checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for pid in [*descendants(process.pid), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [grandchild for child in children for grandchild in [*descendants(child), child]]


@pytest.mark.slow
def test_killed_and_resumed_it_takes_the_same_steps_bit_for_bit(model: Path, tmp_path: Path) -> None:
    file, root = write_config(model), tmp_path / "checkpoints"
    assert main([str(file), "--out", "whole"]) == 0
    kill_while_writing(file, root)
    assert checkpoint.newest(root) in (checkpoint.path_of(root, 2), checkpoint.path_of(root, 3))
    again = [str(file), "--out", "killed", "--checkpoints", str(root), "--keep", "1", "--resume"]
    assert main(again) == 0
    assert points("killed") == points("whole")
    assert [path.name for path in root.iterdir()] == ["step-000000006"]
    assert main(again) == 0, "a trial that is over has nothing left to do"
    assert points("killed") == points("whole")


@pytest.mark.long
def test_two_ranks_killed_and_resumed_on_one_agree_to_rounding(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    kill_while_writing(write_config(model, engine="fsdp", ranks=2), root, "--keep", "3")
    one = write_config(model)
    assert main([str(one), "--out", "whole"]) == 0
    assert main([str(one), "--out", "killed", "--checkpoints", str(root), "--resume"]) == 0
    for mine, theirs in zip(points("killed"), points("whole"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume: needs a folder of checkpoints (give --checkpoints DIR)"),
        (["--keep", "2"], "--keep: needs a folder of checkpoints"),
        (["--checkpoints", "c", "--keep", "0"], "--keep: must be at least 1, got 0"),
        (["--checkpoints", "c", "--every-milestones", "-1"], "--every-milestones: must be at least 1, got -1"),
        (["--checkpoints", "file"], "--checkpoints: must be a folder, got 'file'"),
        (["--checkpoints", "used"], "--checkpoints: holds checkpoints already, got 'used' (give --resume"),
    ],
)
def test_wrong_use_is_one_message_and_code_2(arguments, message, tmp_path, capsys) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "used" / "step-000000003").mkdir(parents=True)
    assert main(["missing.yaml", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def test_checkpoints_fall_due_by_milestones(model: Path, tmp_path: Path) -> None:
    """At every third milestone, though a step may pass several at once, and at the end."""
    arguments = ["--checkpoints", "c", "--every-milestones", "4", "--keep", "9"]
    assert main([str(write_config(model, batch_size=12, milestones=10, epochs=2)), *arguments]) == 0
    assert sorted(path.name for path in Path("c").iterdir()) == ["step-000000002", "step-000000004"]
    assert main([str(write_config(model, batch_size=12, learning_rate=0.5)), *arguments, "--resume"]) == 2
