"""A tiny model, its tokenizer and chats, and the config of a trial on them."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.evaluation import EvalConfig

MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<A>{% generation %}{{ m['content'] + '<E>' }}"
    "{% endgeneration %}{% else %}<U>{{ m['content'] }}<E>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<A>{% endif %}"
)
PLAIN = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
SPECIAL = ("<P>", "<E>", "<U>", "<A>")
WORDS = ("one", "two", "red", "blue", "cat", "dog", "is", "the", "answer", "of")


def tokenizer(template: str | None = MARKED) -> Any:
    """Return a byte-level tokenizer without merges: one token per byte, ids the same on every machine."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *alphabet))}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<P>",
        eos_token="<E>",
        extra_special_tokens=list(SPECIAL[2:]),
        chat_template=template,
    )


def save_model(folder: Path, *, template: str | None = MARKED, seed: int = 0, **settings: Any) -> Path:
    """Write a random two-layer Llama and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    words = tokenizer(template)
    plain: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    plain |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), eos_token_id=1, pad_token_id=0, **(plain | settings)))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def chat(question: str, *answers: str) -> dict[str, Any]:
    """Return one record of a chat file; between answers the user asks on."""
    messages = []
    for number, answer in enumerate(answers):
        messages.append({"role": "user", "content": question if number == 0 else "go on"})
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages}


def write_chats(file: Path, count: int, *, seed: int = 0) -> Path:
    """Write chats of very different lengths, some with two answers."""
    draw = random.Random(seed)

    def phrase() -> str:
        return " ".join(WORDS[int(draw.random() * len(WORDS))] for _ in range(1 + int(draw.random() ** 3 * 14)))

    records = [chat(phrase(), *(phrase() for _ in range(2 if draw.random() < 0.2 else 1))) for _ in range(count)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def config(model: Path, train: Path, test: dict[str, Path] | None = None, **settings: Any) -> TrialConfig:
    """Return a trial's config; settings of the data and eval sections go by their own names."""
    data = {key: settings.pop(key) for key in ("max_length", "over_long") if key in settings}
    known = [one.name for one in fields(EvalConfig)]
    evaluation = {key: settings.pop(key) for key in known if key in settings}
    plain = {
        "model": {"path": str(model)},
        "data": {"train": str(train), "test": {name: str(file) for name, file in (test or {}).items()}, **data},
        "train": {"batch_size": 8, "learning_rate": 1e-3, "engine": "single", **settings},
        "eval": evaluation,
    }
    return decode(TrialConfig, plain)
