"""A random-init model of a known shape, a tokenizer, and chats as long as real ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from trials.world.tokenizer import CHAT_TEMPLATE, END, PAD, ROLES

VOCABULARY: Final = 8192
"""Entries of the benchmark's tokenizer. A shape's own, larger vocabulary keeps its cost in the output layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A decoder's size. Sources: the published config.json of Qwen2.5-0.5B, -1.5B and -7B."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool


SHAPES: Final = {
    "cpu-5m": Shape(hidden=256, layers=6, heads=4, kv_heads=2, intermediate=704, vocabulary=8192, tied=True),
    "cpu-20m": Shape(hidden=512, layers=6, heads=8, kv_heads=4, intermediate=1408, vocabulary=8192, tied=True),
    "qwen-0.5b": Shape(hidden=896, layers=24, heads=14, kv_heads=2, intermediate=4864, vocabulary=151936, tied=True),
    "qwen-1.5b": Shape(hidden=1536, layers=28, heads=12, kv_heads=2, intermediate=8960, vocabulary=151936, tied=True),
    "qwen-7b": Shape(hidden=3584, layers=28, heads=28, kv_heads=4, intermediate=18944, vocabulary=152064, tied=False),
}


def make_world(folder: Path, shape: Shape, data: Path | None, seed: int, *, num_synthetic: int = 4096) -> None:
    """Write model, tokenizer and ``train.jsonl`` into an empty folder."""
    folder.mkdir(parents=True)
    chats = data.read_text(encoding="utf-8") if data else "\n".join(_synthetic_chats(seed, num_synthetic))
    (folder / "train.jsonl").write_text(chats, encoding="utf-8")
    _make_tokenizer(chats).save_pretrained(folder)
    _make_model(shape, seed).save_pretrained(folder)


def _synthetic_chats(seed: int, count: int) -> list[str]:
    """Return chats whose lengths spread as those of real SFT mixes: log-normal, long tail, answers longest.

    Words per chat: median 90 and log-deviation 0.4, as measured on GSM8K's training set.
    """
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), random.integers(2, 9))) for _ in range(6000)]
    chats = []
    for total in np.exp(random.normal(np.log(90), 0.4, count)).astype(int).clip(8, 900):
        question = " ".join(random.choice(words, total // 2))
        answer = " ".join(random.choice(words, total - total // 2))
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        chats.append(json.dumps({"messages": messages}))
    return chats


def _make_tokenizer(chats: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rows = [json.loads(line) for line in chats.split("\n") if line.strip()]
    tokenizer.train_from_iterator((m["content"] for row in rows for m in row["messages"]), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
    )


def _make_model(shape: Shape, seed: int) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
        use_cache=False,
    )
    return Qwen2ForCausalLM(config).to(torch.bfloat16 if shape.hidden >= 896 else torch.float32)
