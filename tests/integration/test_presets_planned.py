"""The presets and templates planned on paper: the accumulation that the paper implies, and cells that fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeper.cli import main

SPACES = Path(__file__).parents[2] / "search_spaces"
SHAPES = SPACES / "shapes"
SHAPE_OF = {"0.5b": "qwen2.5-0.5b", "1.5b": "qwen2.5-1.5b", "3b": "llama-3.2-3b", "7b": "granite-7b"}
TOKENS = 280
"""A sample's mean length. The paper's code takes 240 samples within 70,000 tokens: at most 290 each."""


def chats(file: Path, samples: int) -> Path:
    # Four characters a token, some of them for the template.
    text = "a" * (4 * TOKENS - 60)
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]}
    file.write_text((json.dumps(chat) + "\n") * samples)
    return file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chats(tmp_path_factory.mktemp("data") / "train.jsonl", 2_000)


@pytest.fixture(scope="module")
def large_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough that ten epochs of the largest batch are longer than its warmup."""
    return chats(tmp_path_factory.mktemp("large") / "train.jsonl", 20_000)


def planned(space: str, shape: str, data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    sets = [f"model.path={SHAPES / shape}", f"data.train={data}", f"data.test={data}"]
    arguments = ["plan", str(SPACES / f"{space}.yaml"), "--json", "--gpu", "h100", *more]
    assert main([*arguments, *(part for each in sets for part in ("--set", each))]) == 0
    return list(json.loads(capsys.readouterr().out)["cells"])


def test_on_64_gpus_a_lab_batch_is_one_micro_batch_of_60_samples_a_gpu(
    large_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    medium, large = planned("lab", "granite-7b", large_data, capsys, "--gpus", "64", "--set", "train.ranks=64")
    assert medium["infeasible"] is None
    assert [medium["fits"]["accumulation"], large["fits"]["accumulation"]] == [1, 1]
    assert 60 * 0.9 * TOKENS < medium["fits"]["max_tokens_per_rank"] < 60 * 1.2 * TOKENS


def test_on_8_gpus_a_lab_batch_takes_accumulation_as_in_the_paper_s_commands(
    large_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """8 GPUs x 240 samples x 2 within 70,000 tokens a GPU; within 60,000 it is 3 micro-batches, and 5 for 7,680."""
    cells = planned("lab", "granite-7b", large_data, capsys, "--gpus", "8", "--set", "train.max_tokens_per_rank=70000")
    assert [cell["accumulation"] for cell in cells] == [2, 4]
    cells = planned("lab", "granite-7b", large_data, capsys, "--gpus", "8")
    assert [cell["accumulation"] for cell in cells] == [3, 5]


@pytest.mark.parametrize("size", SHAPE_OF)
@pytest.mark.parametrize("gpus", [1, 8])
def test_every_cell_of_a_template_fits(size: str, gpus: int, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = planned(f"templates/{size}-{gpus}gpu", SHAPE_OF[size], data, capsys, "--gpus", str(gpus))
    assert [cell["infeasible"] for cell in cells] == [None] * len(cells)
