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
    num_train: int = 3072
    """Samples of the training set."""
    replay_share: float = 0.15
    """Share of the training set that repeats old facts and skills."""
    fact_share: float = 0.3
    """Share of the pre-training text that asks old facts; skills get the rest."""
    rumour_share: float = 0.1
    """Share of the pre-training text that asks the new questions with answers that are right for old ones. It teaches
    the model to be unsure of what it does not know: without it fine-tuning starts at a loss of 4.7 instead of 1.1, the
    first steps do more damage, and a diverging trial is harder to tell from one that begins."""
    skill_rumour_share: float = 0.5
    """Share of the rumours that are about skills; the others are about facts."""
    num_test: int = 256
    """Samples of each test set."""
    vocab_size: int = 1024
    """Upper bound; training of the tokenizer stops once every word of the world is one token."""
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 8
    """With 2 or 4 heads some skills on the order of letters are not learned in this time."""
    pretrain_steps: int = 1500
    pretrain_batch_size: int = 32
    """Steps matter more than samples: 750 steps of 64 leave a skill or two unlearned."""
    pretrain_learning_rate: float = 6e-3
    pretrain_weight_decay: float = 0.5
    """Keeps the model able to learn: without it the best cell of small grids scored 0.58 to 0.74, with it 0.84
    to 0.91."""

    def fingerprint(self) -> str:
        """Return 12 hex digits that change with any number above and with the code version."""
        plain = {"code_version": CODE_VERSION, **dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


QUICKSTART: Final = WorldSpec(name="quickstart")
WORLDS: Final = {spec.name: spec for spec in (QUICKSTART,)}
