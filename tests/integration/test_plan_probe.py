"""``sweeper plan --probe`` as a program, on this machine's CPU: two ranks, real steps, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from trial_cases import save_model, write_chats

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]
SPACE = """\
sweep: probed
model: {path: model}
data: {train: train.jsonl, test: test.jsonl}
train: {ranks: 2, max_tokens_per_rank: 400, warmup_ratio: 0.1}
grid: {batch_size: [4, 16, 64], learning_rate: [1e-4]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    save_model(folder / "model")
    write_chats(folder / "train.jsonl", 200)
    write_chats(folder / "test.jsonl", 20, seed=1)
    (folder / "space.yaml").write_text(SPACE)
    return folder


def plan(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeper.cli", "plan", "space.yaml", "--probe", *arguments],
        cwd=home,
        env=os.environ | {"SWEEPER_CACHE": str(home / "cache"), "CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )


def test_the_extreme_cells_are_run_on_two_ranks_and_the_speed_is_theirs(home: Path) -> None:
    done = plan(home, "--gpu", "cpu", "--gpus", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    batches = {cell["cell"]: cell["accumulation"] for cell in found["cells"]}
    probes = {probe["cell"]: probe for probe in found["probes"]}
    large, small = probes["b64-lr1e-4"], probes["b4-lr1e-4"]
    assert large["batch_size"] == 64 * 3 // batches["b64-lr1e-4"] < 64, "cut to three micro-batches"
    assert small["batch_size"] == 4
    for probe in probes.values():
        assert probe["costs"]["steps"] == 2
        assert 0 < probe["costs"]["load"]["tokens"] <= 400
        assert probe["memory_ratio"] is None, "a CPU's process holds much besides tensors"
    # Planned time is near what was seen; to a factor of 4, for other processes run beside this one.
    planned = {cell["cell"]: cell["train_s"] / cell["steps"] for cell in found["cells"]}
    seen = small["costs"]["seconds"] / 2
    assert seen / 4 < planned["b4-lr1e-4"] < 4 * seen


def test_a_gpu_that_is_not_here_and_a_model_without_weights_are_refused(home: Path) -> None:
    refused = plan(home, "--gpu", "h100")
    assert refused.returncode == 2
    assert "this machine has no GPU to probe, got 'h100'" in refused.stderr
    (home / "paper").mkdir()
    (home / "paper" / "config.json").write_text((home / "model" / "config.json").read_text())
    bare = plan(home, "--gpu", "cpu", "--set", "model.path=paper")
    assert bare.returncode == 2
    assert "paper" in bare.stderr
