"""How long the samples of a training set are, in a few hundred numbers: what memory and time are planned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sweeper.core.config import TrialConfig
from sweeper.core.errors import InputError
from sweeper.core.phases import phases_of
from trials.chats import read_chats
from trials.data import TokenSet
from trials.source import ModelFacts

SKETCHED: Final = 512
"""Samples that stand for all of them."""
CHARACTERS_PER_TOKEN: Final = 4
"""Of English text, roughly (OpenAI's tokenizer page says so of its own). Used where there is no tokenizer."""
TURN_TOKENS: Final = 5
"""Taken for what a chat template adds to a turn."""


def sketch(sets: Sequence[TokenSet]) -> dict[str, Any]:
    """Return how many samples and tokens there are, and samples at even ranks of length as [input, loss] tokens.

    Inputs are one token shorter than samples. The shortest and the longest sample are among those shown.
    """
    lengths = np.concatenate([one.lengths for one in sets]) - 1
    return _sketch(lengths, np.concatenate([one.loss_counts for one in sets]))


def paper_facts(config: TrialConfig, model: ModelFacts) -> dict[str, Any]:
    """Return what ``prepare`` would of a model without a tokenizer, lengths estimated from characters.

    Raises:
        InputError: the data cannot be read.
    """
    files = [_estimated(path, "train", config) for path in config.data.train]
    lengths, losses = np.concatenate([one[0] for one in files]), np.concatenate([one[1] for one in files])
    phases = phases_of(config.data, [len(one[0]) for one in files])
    tests = {name: _estimated(path, "test", config) for name, path in config.data.test.items()}
    return {
        "train_samples": sum(phase.samples for phase in phases),
        "phases": [asdict(phase) for phase in phases],
        "train_tokens": int(lengths.sum()) + len(lengths),
        "loss_tokens": int(losses.sum()),
        "longest_tokens": int(lengths.max()) + 1,
        "lengths": _sketch(lengths, losses),
        "test": {name: {"samples": len(one[0]), "tokens": int(one[0].sum())} for name, one in tests.items()},
        "model": asdict(model),
    }


def _estimated(path: str, split: str, config: TrialConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths, losses = [], []
    for _, chat in read_chats(path, split=split):
        tokens = [(turn, TURN_TOKENS + len(turn["content"]) // CHARACTERS_PER_TOKEN) for turn in chat]
        total = sum(count for _, count in tokens)
        lengths.append(min(total, config.data.max_length))
        losses.append(min(lengths[-1], sum(count for turn, count in tokens if turn["role"] == "assistant")))
    if not lengths:
        raise InputError("holds no sample", where=path)
    return np.array(lengths), np.array(losses)


def _sketch(lengths: NDArray[Any], losses: NDArray[Any]) -> dict[str, Any]:
    order = np.argsort(lengths, kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, SKETCHED).round().astype(np.int64))]
    return {
        "samples": len(lengths),
        "tokens": int(lengths.sum()),
        "loss_tokens": int(losses.sum()),
        "shown": np.stack([lengths[shown], losses[shown]], axis=1).tolist(),
    }
