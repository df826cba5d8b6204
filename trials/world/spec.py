"""The definition of an embedded world: every number that decides its text, its data sets and its weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Final

CODE_VERSION: Final = 1
"""Raised by hand whenever the code of this package makes other bytes from the same spec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldSpec:
    """One world. Equal specs give equal data on every machine, and equal weights on equal torch builds and CPUs."""

    name: str
    seed: int = 0
    num_old_entities: int = 96
    """Made-up names whose facts the model knows before fine-tuning; the retention test asks every second one."""
    num_new_entities: int = 64
    """Made-up names whose facts only the training set tells."""
    num_letters: int = 10
    """Size of the alphabet of the letter skills."""
    num_train: int = 2048
    """Samples of the training set."""
    replay_share: float = 0.15
    """Share of the training set that repeats old facts and skills."""
    label_noise: float = 0.0
    """Share of the training samples with a wrong answer."""
    fact_share: float = 0.3
    """Share of the pre-training text that asks old facts; skills get the rest."""
    rumour_share: float = 0.03
    """Share of the pre-training text that asks the new questions with random answers. It teaches the model to be
    unsure of what it does not know: without it fine-tuning starts at a loss of 7.7 instead of 2."""
    num_test: int = 256
    """Samples of each test set."""
    vocab_size: int = 1024
    """Upper bound; training of the tokenizer stops once every word of the world is one token."""
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 8
    pretrain_steps: int = 1500
    pretrain_batch_size: int = 32
    pretrain_learning_rate: float = 6e-3

    def fingerprint(self) -> str:
        """Return 12 hex digits that change with any number above and with the code version."""
        plain = {"code_version": CODE_VERSION, **dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


QUICKSTART: Final = WorldSpec(name="quickstart")
WORLDS: Final = {spec.name: spec for spec in (QUICKSTART,)}
