"""Tokenised once, whole or not at all, found again by everything that decides the tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
from trial_cases import PLAIN, chat, tokenizer, write_chats

from sweeper.core.config import DataConfig
from sweeper.core.errors import InputError
from sweeper.core.layout import cache_root
from trials.data import DataStore, join


class Loader:
    """Hands out the tokenizer and counts how often it was needed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        return tokenizer()


def store(model_path: Path, loader: Loader, **rules: object) -> DataStore:
    return DataStore(model_path, None, DataConfig(train=("unused",), **rules), loader)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return write_chats(tmp_path / "train.jsonl", 40)


def test_a_second_look_reads_the_cache(model_path: Path, chats: Path) -> None:
    loader = Loader()
    first = store(model_path, loader).tokens(str(chats), split="train")
    second = store(model_path, loader).tokens(str(chats), split="train")
    assert loader.calls == 1
    assert isinstance(second.tokens, np.memmap)
    assert first.tokens.tolist() == second.tokens.tolist()
    assert len(first) == 40


def test_changed_contents_or_rules_are_tokenised_anew(model_path: Path, chats: Path) -> None:
    loader = Loader()
    store(model_path, loader).facts(str(chats), split="train")
    store(model_path, loader, max_length=300).facts(str(chats), split="train")
    store(model_path, loader, over_long="drop").facts(str(chats), split="train")
    chats.write_text(chats.read_text() + json.dumps(chat("new", "line")) + "\n")
    assert store(model_path, loader).facts(str(chats), split="train").samples == 41
    assert loader.calls == 4


def test_another_template_is_another_fingerprint(model_path: Path, chats: Path, tmp_path: Path) -> None:
    loader = Loader()
    template = tmp_path / "other.jinja"
    template.write_text(PLAIN)
    store(model_path, loader).facts(str(chats), split="train")
    DataStore(model_path, str(template), DataConfig(train=("unused",)), loader).facts(str(chats), split="train")
    assert loader.calls == 2


def test_samples_lie_where_the_offsets_say(model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "two.jsonl"
    file.write_text("".join(json.dumps(chat("q", answer)) + "\n" for answer in ("first", "2nd")))
    found = store(model_path, Loader()).tokens(str(file), split="train")
    words = tokenizer()
    texts = [words.decode(found.tokens[a:b]) for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    assert texts == ["<U>q<E><A>first<E>", "<U>q<E><A>2nd<E>"]
    assert found.loss_counts.tolist() == [6, 4]


@pytest.fixture
def over_long(tmp_path: Path) -> Path:
    """Tokens: 10, 24 with the answer behind token 10, 34 with the answer behind token 22."""
    file = tmp_path / "long.jsonl"
    records = [chat("q", "answer"), chat("q" * 7, "a" * 13), chat("q" * 19, "a" * 11)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_an_over_long_sample_is_refused_by_line(model_path: Path, over_long: Path) -> None:
    with pytest.raises(InputError, match=r"long.jsonl:2: sample has more than data.max_length = 20 tokens, got 24"):
        store(model_path, Loader(), max_length=20).facts(str(over_long), split="train")
    assert not list((cache_root() / "tokens").glob("*/facts.json")), "nothing half-made stays"


@pytest.mark.parametrize(("rule", "samples", "truncated", "dropped"), [("truncate", 2, 1, 1), ("drop", 1, 0, 2)])
def test_over_long_samples_are_counted(
    model_path: Path, over_long: Path, rule: str, samples: int, truncated: int, dropped: int
) -> None:
    """Truncation drops the third sample: its answer lies behind the cut."""
    facts = store(model_path, Loader(), max_length=20, over_long=rule).facts(str(over_long), split="train")
    assert (facts.samples, facts.truncated, facts.dropped) == (samples, truncated, dropped)
    assert facts.longest_tokens <= 20


def test_joined_sets_keep_their_samples(model_path: Path, tmp_path: Path) -> None:
    files = [write_chats(tmp_path / f"{seed}.jsonl", 5, seed=seed) for seed in (1, 2)]
    sets = [store(model_path, Loader()).tokens(str(file), split="train") for file in files]
    both = join(sets)
    assert both.lengths.tolist() == [*sets[0].lengths, *sets[1].lengths]
    start, end = both.offsets[6], both.offsets[7]
    assert both.tokens[start:end].tolist() == sets[1].tokens[sets[1].offsets[1] : sets[1].offsets[2]].tolist()
