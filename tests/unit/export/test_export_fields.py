"""No setting is dropped in silence: docs/export.md says what each target does with each, and this is what it does."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from recipe_cases import recipe

from sweeper.core.config import DataConfig, LoraConfig, ModelConfig, TrainConfig
from sweeper.core.errors import InputError
from sweeper.export.targets import TARGETS

DOCS = Path(__file__).parents[3] / "docs" / "export.md"
PHASED = {"data.strategy": "phased", "data.phase_by": "answer_length"}
ADAPTERS = {"train.lora.rank": 16}
SHARDED = {"train.ranks": 4}

CHANGES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "model.path": ({}, {"model.path": "/models/other"}),
    "model.revision": ({}, {"model.revision": "v2"}),
    "model.chat_template": ({}, {"model.chat_template": "/templates/chat.jinja"}),
    "model.trust_remote_code": ({}, {"model.trust_remote_code": True}),
    "data.train": ({}, {"data.train": ["/data/other.jsonl"]}),
    "data.max_length": ({}, {"data.max_length": 256}),
    "data.over_long": ({}, {"data.over_long": "truncate"}),
    "data.strategy": ({}, PHASED),
    "data.phase_by": ({"data.train": ["/a.jsonl", "/b.jsonl"], "data.strategy": "phased"}, PHASED),
    "data.phases": (PHASED, {**PHASED, "data.phases": 3}),
    "data.replay_share": (PHASED, {**PHASED, "data.replay_share": 0.1}),
    "train.batch_size": ({}, {"train.batch_size": 96}),
    "train.learning_rate": ({}, {"train.learning_rate": 2e-3}),
    "train.warmup_steps": ({}, {"train.warmup_steps": 8}),
    "train.warmup_samples": ({}, {"train.warmup_samples": 480}),
    "train.warmup_ratio": ({}, {"train.warmup_ratio": 0.2}),
    "train.schedule": ({}, {"train.schedule": "linear"}),
    "train.epochs": ({}, {"train.epochs": 3.0}),
    "train.clip_norm": ({}, {"train.clip_norm": 0.5}),
    "train.adam_beta1": ({}, {"train.adam_beta1": 0.8}),
    "train.adam_beta2": ({}, {"train.adam_beta2": 0.99}),
    "train.adam_eps": ({}, {"train.adam_eps": 1e-6}),
    "train.weight_decay": ({}, {"train.weight_decay": 0.1}),
    "train.engine": ({}, {"train.engine": "deepspeed"}),
    "train.zero_stage": ({"train.engine": "deepspeed"}, {"train.engine": "deepspeed", "train.zero_stage": 3}),
    "train.ranks": ({}, {"train.ranks": 4}),
    "train.shard_ranks": (SHARDED, {**SHARDED, "train.shard_ranks": 2}),
    "train.activation_checkpointing": ({}, {"train.activation_checkpointing": True}),
    "train.cpu_offload": ({}, {"train.cpu_offload": True}),
    "train.precision": ({}, {"train.precision": "fp32"}),
    "train.max_tokens_per_rank": ({}, {"train.max_tokens_per_rank": 200}),
    "train.lora": ({}, ADAPTERS),
    "train.lora.rank": (ADAPTERS, {"train.lora.rank": 8}),
    "train.lora.alpha": (ADAPTERS, {**ADAPTERS, "train.lora.alpha": 8.0}),
    "train.lora.dropout": (ADAPTERS, {**ADAPTERS, "train.lora.dropout": 0.1}),
    "train.lora.target_modules": (ADAPTERS, {**ADAPTERS, "train.lora.target_modules": ["q_proj", "v_proj"]}),
    "train.seed": ({}, {"train.seed": 7}),
}
"""For each setting a trial, and the same with another value of it."""
ONLY_MEASURED = {"data.test"}
"""Settings that decide nothing in training. ``eval`` is one as a whole."""


def settings() -> set[str]:
    sections = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig, "train.lora": LoraConfig}
    return {f"{name}.{field.name}" for name, cls in sections.items() for field in dataclasses.fields(cls)}


def outcome(target: str, setting: str) -> str:
    """Return what becomes of the setting: ``kept`` in the file's values, ``named`` in its head, ``refused``."""
    before, after = (recipe(changes) for changes in CHANGES[setting])
    try:
        new = TARGETS[target].translate(after)
    except InputError:
        return "refused"
    old = TARGETS[target].translate(before)
    if (new.body, new.companions) != (old.body, old.companions):
        return "kept"
    return "named" if new.notes != old.notes else "dropped"


def documented() -> dict[str, dict[str, str]]:
    """Return the table of the docs: by setting, what each target does with it."""
    rows = [line.strip("| ").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    heads = next(row for row in rows if row[0] == "setting")
    targets = [head.strip("`") for head in heads[1:]]
    below = [row for row in rows[rows.index(heads) + 1 :] if len(row) == len(heads)]
    return {row[0].strip("`"): dict(zip(targets, row[1:], strict=True)) for row in below}


def test_every_setting_of_a_trial_is_in_the_table() -> None:
    assert settings() - ONLY_MEASURED == set(CHANGES) == set(documented())


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_does_with_each_setting_what_the_table_says(target: str) -> None:
    found = {setting: outcome(target, setting) for setting in CHANGES}
    assert "dropped" not in found.values()
    assert found == {setting: row[target] for setting, row in documented().items()}
