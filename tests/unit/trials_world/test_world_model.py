"""A miniature world: the quickstart's definition with a handful of pre-training steps."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sweeper.core.errors import InputError
from trials.world import known_paths, resolve
from trials.world.datasets import World
from trials.world.paths import make_model
from trials.world.pretrain import batches, learning_rate_factor, pretrain
from trials.world.spec import QUICKSTART
from trials.world.tokenizer import train_tokenizer

MINIATURE = dataclasses.replace(QUICKSTART, name="miniature", pretrain_steps=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_model(MINIATURE)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(World(MINIATURE))


def test_the_auto_classes_load_the_model(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert not model.config.use_cache
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(folder))
    assert (folder / "model.safetensors").is_file()


def test_equal_specs_give_equal_weights_and_leave_the_callers_random_state_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    world = World(MINIATURE)
    again = pretrain(world, train_tokenizer(world)).state_dict()
    assert torch.equal(torch.rand(3), expected)
    saved = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(saved[name], again[name]) for name in saved)


def test_the_template_marks_the_answer_and_its_end_and_nothing_else(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = World(MINIATURE).train()[0].to_json()
    encoded = tokenizer.apply_chat_template(chat["messages"], return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, m in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(marked) == chat["answer"] + tokenizer.eos_token


def test_the_prompt_for_generation_is_the_beginning_of_the_whole_chat(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for sample in World(MINIATURE).new()[:20]:
        messages = sample.to_json()["messages"]
        whole = tokenizer.apply_chat_template(messages)["input_ids"]
        prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True)["input_ids"]
        assert whole[: len(prompt)] == prompt


def test_pretraining_sees_the_tokens_of_the_template(tokenizer: PreTrainedTokenizerFast) -> None:
    world = World(MINIATURE)
    ids, labels = next(batches(world, tokenizer))
    for row, sample in zip(range(5), world.pretraining(), strict=False):
        encoded = tokenizer.apply_chat_template(
            sample.to_json()["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        length = len(encoded["input_ids"])
        assert ids[row, :length].tolist() == encoded["input_ids"]
        assert (labels[row, :length] >= 0).tolist() == [bool(m) for m in encoded["assistant_masks"]]


def test_every_word_of_the_world_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    world = World(MINIATURE)
    for fact in world.new_facts + world.old_facts:
        assert len(tokenizer.encode(f" {fact.entity}")) == len(tokenizer.encode(fact.value)) == 1


@pytest.mark.parametrize("text", ["Mary has 12 cups; Größe 3.5 → ∞?", "line\n\tbreak", "ABC abc 007"])
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] < 0.001


def test_data_sets_are_chat_jsonl_and_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from trials.world import resolve; print(resolve('builtin:quickstart/new'));"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {"SWEEPER_CACHE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in Path(done.stdout.strip()).read_text().splitlines()]
    assert len(rows) == QUICKSTART.num_test
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["messages"][1]["content"] == row["answer"]


def test_an_unknown_name_is_refused_with_the_nearest_one_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="did you mean 'builtin:quickstart/train'"):
        resolve("builtin:quickstart/trian")
    assert not (tmp_path / "cache").exists()


def test_known_paths_lists_the_model_and_its_data_sets() -> None:
    assert known_paths() == tuple(f"builtin:quickstart{part}" for part in ("", "/train", "/new", "/old"))
