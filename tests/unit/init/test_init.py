"""A first search space: what is advised, what is asked, and that it can be planned as it is."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from trial_cases import write_chats

from sweeper.adapters.yaml_space import load_space
from sweeper.cli import main
from sweeper.core.errors import InputError
from sweeper.core.micro_batch import Lengths
from sweeper.core.shape import ModelShape, shape_of
from sweeper.init.advice import EPOCHS, LEAST_STEPS, advise
from sweeper.init.command import execute
from sweeper.init.layout import layout
from sweeper.planning.hardware import hardware

SEVEN: dict[str, Any] = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944}
SEVEN |= {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
LENGTHS = Lengths.of(
    {"lengths": {"samples": 9000, "tokens": 1_800_000, "loss_tokens": 900_000, "shown": [[100, 50], [300, 150]]}}
)


def seven() -> ModelShape:
    found = shape_of(SEVEN)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("samples", "batch_sizes"),
    [
        (5, (1,)),
        (40, (8,)),
        (300, (8, 32, 64)),
        (7_473, (32, 128, 512)),
        (50_000, (64, 256, 1024)),
        (825_487, (128, 3840, 7680)),
    ],
)
def test_batch_sizes_follow_the_size_of_the_data(samples: int, batch_sizes: tuple[int, ...]) -> None:
    found = advise(samples, 7e9, lora=False).batch_sizes
    assert found == batch_sizes
    assert all(size <= samples for size in found)
    assert samples < LEAST_STEPS or all(EPOCHS * samples / size >= LEAST_STEPS for size in found)


def test_learning_rates_leave_room_below_the_best_that_the_paper_found() -> None:
    rates = advise(100_000, 7e9, lora=False).learning_rates
    assert min(rates) < 1e-6
    assert 2e-5 in rates
    assert list(rates) == sorted(rates)
    assert advise(100_000, None, lora=False).learning_rates == rates


@pytest.mark.parametrize(("lower", "higher"), [(1e5, 5e8), (5e8, 7e9), (7e9, 7e10)])
def test_smaller_models_and_adapters_are_given_higher_rates(lower: float, higher: float) -> None:
    whole, larger = (advise(10_000, size, lora=False).learning_rates for size in (lower, higher))
    assert all(a >= b for a, b in zip(whole, larger, strict=True))
    assert whole != larger
    assert advise(10_000, lower, lora=True).learning_rates[-1] > 10 * whole[-1]


def test_a_trial_takes_as_few_gpus_as_hold_it() -> None:
    assert LENGTHS is not None
    found = layout(seven(), LENGTHS, hardware("h100", None, 8), batch_size=512, longest=300, lora=False).keys
    assert found["ranks"] in (2, 4)
    assert found["engine"] == "fsdp"
    adapted = layout(seven(), LENGTHS, hardware("h100", None, 8), batch_size=512, longest=300, lora=True).keys
    assert adapted["ranks"] == 1
    assert adapted["engine"] == "single"


def test_a_model_that_no_layout_holds_is_refused_with_what_would() -> None:
    assert LENGTHS is not None
    with pytest.raises(InputError, match=r"7,615,616,512 weights does not fit 1 x l4, got 1 .*--lora"):
        layout(seven(), LENGTHS, hardware("l4", None, 1), batch_size=512, longest=300, lora=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    # On paper a config is enough; no model has to be made for a test.
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, '
        '"num_attention_heads": 4, "vocab_size": 512}'
    )
    write_chats(tmp_path / "train.jsonl", 240)
    write_chats(tmp_path / "test.jsonl", 10, seed=1)
    return tmp_path


def test_what_is_written_can_be_planned_as_it_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--model", "model", "--train", "train.jsonl", "--test", "test.jsonl", "--gpu", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "sweeper plan space.yaml" in printed
    assert "no weights and no tokenizer yet" in printed
    space, cells = load_space(home / "space.yaml")
    assert len(cells) == 16
    assert space.grid["batch_size"] == (8, 32)
    assert space.model.path == str(home / "model")
    assert main(["plan", "space.yaml", "--gpu", "cpu"]) == 0
    assert "16 cells: 16 can run, 0 infeasible" in capsys.readouterr().out


def test_without_a_terminal_what_is_missing_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--train", "train.jsonl", "--test", "test.jsonl"]) == 2
    assert "--model: must be given: there is no terminal to ask at" in capsys.readouterr().err
    assert not (home / "space.yaml").exists()


def test_an_existing_file_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "space.yaml").write_text("mine")
    assert main(["init", "--model", "model", "--train", "train.jsonl", "--test", "test.jsonl"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (home / "space.yaml").read_text() == "mine"


def test_at_a_terminal_it_asks_for_what_it_was_not_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    answers = iter(["", "model", "test.jsonl"])
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return next(answers)

    told = {"model": None, "train": "train.jsonl", "test": None, "gpu": "cpu", "gpus": 2, "gpu_memory_gb": None}
    assert execute(argparse.Namespace(**told, lora=False, name="mine", out=home / "own.yaml"), ask) == 0
    assert [question.split(" ")[0] for question in asked] == ["Model", "Model", "Held-out"]
    assert load_space(home / "own.yaml")[0].sweep == "mine"
