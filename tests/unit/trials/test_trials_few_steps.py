"""What a few real steps cost, as a plan asks for it."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from trial_cases import config, save_model, write_chats

from trials.few_steps import measure_steps


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_model(tmp_path / "model")
    write_chats(tmp_path / "chats.jsonl", 40)
    return tmp_path


def test_steps_after_the_first_are_timed_and_the_fullest_micro_batch_is_told(folder: Path) -> None:
    chosen = config(folder / "model", folder / "chats.jsonl", batch_size=10, max_tokens_per_rank=300)
    costs = measure_steps(chosen, steps=2, rank=0, ranks=1)
    assert (costs["steps"], costs["device"], costs["max_tokens_per_rank"]) == (2, "cpu", 300)
    assert 0 < costs["loss_tokens"] < costs["tokens"] <= 300
    assert costs["micro_batches"] > 1
    assert costs["flops"] > 0
    assert math.isfinite(costs["seconds"])
    assert costs["peak_memory_bytes"] > 10**6


def test_a_trial_of_a_single_step_is_timed_by_that_step(folder: Path) -> None:
    costs = measure_steps(config(folder / "model", folder / "chats.jsonl", batch_size=40), steps=2, rank=0, ranks=1)
    assert costs["steps"] == 1
    assert costs["seconds"] > 0
