"""Recipes to export, made from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.export.recipe import Recipe

BASE: Mapping[str, Any] = {
    "model.path": "/models/base",
    "data.train": ["/data/train.jsonl"],
    "data.max_length": 512,
    "train.batch_size": 48,
    "train.learning_rate": 1e-3,
    "train.schedule": "cosine",
    "train.precision": "bf16",
    "train.epochs": 2.0,
    "train.engine": "fsdp",
    "train.ranks": 2,
}
"""A trial that every target can say."""


def recipe(changes: Mapping[str, Any] | None = None, *, gpus: int | None = None, samples: int = 960) -> Recipe:
    """Return the base with some keys changed, on as many GPUs as it has ranks unless said otherwise.

    The fingerprint stays, so that what an export says changes by the settings alone.
    """
    plain: dict[str, Any] = {}
    for dotted, value in {**BASE, **(changes or {})}.items():
        section, *rest = dotted.split(".")
        target = plain.setdefault(section, {})
        if rest[0] == "lora" and len(rest) == 2:
            target, rest = target.setdefault("lora", {}), rest[1:]
        target[rest[0]] = value
    config = decode(TrialConfig, plain)
    return Recipe(
        config=config,
        fingerprint="0123456789abcdef",
        gpus=config.train.ranks if gpus is None else gpus,
        train_samples=samples,
        longest_tokens=100,
    )
