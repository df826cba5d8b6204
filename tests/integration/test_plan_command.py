"""``sweeper plan`` as a program: without weights, without torch, and on what trials have shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from trial_cases import write_chats

ROOT = Path(__file__).parents[2]
SEVEN = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28}
SEVEN |= {"intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
SPACE = """\
sweep: seven
model: {path: seven}
data: {train: train.jsonl, test: test.jsonl, max_length: 2048}
train: {ranks: 8, precision: bf16, activation_checkpointing: true}
grid:
  batch_size: [16, 32, 48, 64, 80, 96, 112, 128, 144, 160]
  learning_rate: [1e-6, 2e-6, 3e-6, 4e-6, 5e-6, 6e-6, 7e-6, 8e-6, 9e-6, 1e-5]
  warmup_ratio: [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    (folder / "seven").mkdir()
    (folder / "seven" / "config.json").write_text(json.dumps(SEVEN))
    write_chats(folder / "train.jsonl", 400)
    write_chats(folder / "test.jsonl", 20, seed=1)
    (folder / "space.yaml").write_text(SPACE)
    # Whoever imports these fails: a plan needs neither, nor have they time to load.
    for name in ("torch", "transformers", "ray", "mlflow"):
        (folder / "forbidden").mkdir(exist_ok=True)
        (folder / "forbidden" / f"{name}.py").write_text("raise ImportError('a plan must not import this')\n")
    return folder


def plan(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeper.cli", "plan", "space.yaml", *arguments],
        cwd=home,
        env=os.environ | {"PYTHONPATH": f"{home / 'forbidden'}:{ROOT}", "SWEEPER_CACHE": str(home / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_thousand_cells_of_a_model_without_weights_are_planned_without_torch(home: Path) -> None:
    done = plan(home, "--gpu", "h100", "--gpus", "64", "--price", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["cells"]) == found["sweep"]["cells"] == 1000
    assert found["sweep"]["at_once"] == 8
    assert found["sweep"]["cost"] == pytest.approx(2 * found["sweep"]["gpu_hours"])
    first = found["cells"][0]
    assert first["memory_bytes_per_rank"]["optimizer"] == pytest.approx(7_615_616_512)
    assert first["fits"]["accumulation"] == 1
    assert "no weights and no tokenizer" in found["notes"][0]


def test_one_cell_is_explained_and_an_unknown_one_is_named(home: Path) -> None:
    done = plan(home, "--gpu", "a100-40", "--gpus", "8", "--explain", "b64-lr1e-6-wr0")
    assert done.returncode == 0, done.stderr
    assert "optimizer" in done.stdout
    wrong = plan(home, "--explain", "b65-lr1e-6-wr0")
    assert wrong.returncode == 2
    assert "no such cell, got 'b65-lr1e-6-wr0' (did you mean " in wrong.stderr


def test_an_unknown_gpu_is_refused_with_the_nearest(home: Path) -> None:
    done = plan(home, "--gpu", "h10")
    assert done.returncode == 2
    assert "h100" in done.stderr
