"""The model of a world: a small Llama, pre-trained on the world's old knowledge and skills."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from trials.world.datasets import World
from trials.world.language import Sample
from trials.world.spec import WorldSpec

IGNORED_LABEL = -100


def pretrain(world: World, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the model after ``pretrain_steps`` steps on one thread, whatever the caller's threads and seeds are."""
    spec = world.spec
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            model = LlamaForCausalLM(model_config(spec, tokenizer))
            _train(model, batches(world, tokenizer), spec)
    finally:
        torch.set_num_threads(num_threads)
    return model


def model_config(spec: WorldSpec, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Return the architecture for one spec."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden_size,
        intermediate_size=2 * spec.hidden_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        # A cache in training mode switches off transformers' detection of packed sequences.
        use_cache=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )


def batches(world: World, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield token ids and labels, both [batch, time], right-padded; only answers carry loss."""
    stream = world.pretraining()
    while True:
        rows = [_encode(tokenizer, sample) for sample in islice(stream, world.spec.pretrain_batch_size)]
        longest = max(len(tokens) for tokens, _ in rows)
        ids = torch.full((len(rows), longest), int(tokenizer.pad_token_id or 0))
        labels = torch.full((len(rows), longest), IGNORED_LABEL)
        for row, (tokens, num_prompt) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, num_prompt : len(tokens)] = torch.tensor(tokens[num_prompt:])
        yield ids, labels


def _encode(tokenizer: PreTrainedTokenizerFast, sample: Sample) -> tuple[list[int], int]:
    """Return the ids of one chat and how many of them are the prompt. Ten times faster than the Jinja template."""
    prompt = tokenizer.encode(f"<|user|>{sample.question}<|end|><|assistant|>")
    return prompt + tokenizer.encode(f"{sample.answer}<|end|>"), len(prompt)


def _train(model: LlamaForCausalLM, data: Iterator[tuple[torch.Tensor, torch.Tensor]], spec: WorldSpec) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec.pretrain_learning_rate, betas=(0.9, 0.95), weight_decay=spec.pretrain_weight_decay
    )
    model.train()
    for step, (ids, labels) in enumerate(islice(data, spec.pretrain_steps)):
        for group in optimizer.param_groups:
            group["lr"] = spec.pretrain_learning_rate * learning_rate_factor(step, spec.pretrain_steps)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.train(False)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load."""
    shows_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        if shows_bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def learning_rate_factor(step: int, total_steps: int) -> float:
    """Return the share of the peak rate at a 0-based step: linear warmup over a twentieth, then a half cosine to 0."""
    warmup_steps = max(1, total_steps // 20)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps)))
