"""One trial's complete configuration, and the fingerprint by which it is found again.

A ``TrialConfig`` holds everything that decides the numbers a trial produces and nothing else: two trials with equal
configs must give the same loss sequence. Values are checked at construction and never adjusted.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeper.core.decode import encode
from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from sweeper.core.program import ProgramConfig

BUILTIN_PREFIX = "builtin:"
"""Paths that start so name a model or data set which the project makes itself (see ``trials.world``)."""

Engine = Literal["fsdp", "deepspeed", "single"]
Schedule = Literal["constant", "linear", "cosine", "wsd"]
Precision = Literal["fp32", "bf16"]
OverLong = Literal["refuse", "truncate", "drop"]
Strategy = Literal["stacked", "phased"]
PhaseBy = Literal["file", "answer_length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The causal language model that every trial starts from."""

    path: str
    """A local folder, a hub name, or ``builtin:quickstart``."""
    revision: str | None = None
    """Commit, tag or branch of a hub model; empty means the hub's default branch."""
    chat_template: str | None = None
    """A file with a Jinja chat template that replaces the tokenizer's own."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model. Off unless asked: it is arbitrary code."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise InputError("must name a model folder or hub model", where="path", got=self.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Chat data: JSONL with ``messages``, Parquet with a ``messages`` column, or the name of a ``datasets`` set."""

    train: tuple[str, ...]
    """Files or data-set names to train on; ``strategy`` says whether they are mixed."""
    test: Mapping[str, str] = field(default_factory=dict)
    """Held-out sets by name; a lone path is the set named ``test``."""
    max_length: int = 4096
    """Longest sample in tokens, prompt and answer together."""
    over_long: OverLong = "refuse"
    """What to do with a longer sample: ``refuse`` to start, ``truncate`` it, or ``drop`` it (counted and reported)."""
    strategy: Strategy = "stacked"
    """``stacked``: all data mixed. ``phased``: one part after another, each for all of ``train.epochs``."""
    phase_by: PhaseBy = "file"
    """What makes the parts of ``phased``: the files of ``train`` in their order, or the length of the answers."""
    phases: int = 2
    """Parts of equal size by ``answer_length``, shortest answers first; the paper takes 2."""
    replay_share: float = 0.0
    """Share of the samples of each later phase that are drawn from earlier ones, on top of its own."""

    @staticmethod
    def expand_shorthand(plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the full form of what a user may write: a lone test path names the set ``test``."""
        test = plain.get("test")
        return {**plain, "test": {"test": test}} if isinstance(test, str) else plain

    def __post_init__(self) -> None:
        if not self.train:
            raise InputError("must name at least one file", where="train", got=self.train)
        if self.max_length < 2:
            raise InputError("must be at least 2 tokens", where="max_length", got=self.max_length)
        if self.phases < 2:
            raise InputError("must be at least 2", where="phases", got=self.phases)
        if not 0 <= self.replay_share < 1:
            raise InputError("must be at least 0 and below 1", where="replay_share", got=self.replay_share)
        if self.strategy == "phased" and self.phase_by == "file" and len(self.train) < 2:
            raise InputError(
                "phases by file need at least two files",
                where="strategy",
                got="phased",
                mend="name them in data.train, or set data.phase_by: answer_length",
            )


ALL_LINEAR = "all-linear"
"""Stands for every linear layer but the output layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Adapters of low rank, trained in place of the model's weights."""

    rank: int = 16
    """Inner size of an adapter."""
    alpha: float = 32.0
    """What an adapter adds is scaled by ``alpha / rank``."""
    dropout: float = 0.0
    """Share of an adapter's inputs that is dropped in training."""
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    """Ends of the names of the layers that get an adapter, e.g. ``[q_proj, v_proj]``, or ``all-linear``."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError("must be at least 1", where="rank", got=self.rank)
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise InputError("must be finite and above 0", where="alpha", got=self.alpha)
        if not 0 <= self.dropout < 1:
            raise InputError("must be in [0, 1)", where="dropout", got=self.dropout)
        if not self.target_modules:
            raise InputError("must name at least one layer", where="target_modules", got=self.target_modules)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How one trial trains. Defaults follow arXiv 2412.13337 where the paper or its code states a value."""

    batch_size: int
    """Effective batch: samples per optimizer step over all ranks and accumulation, met exactly."""
    learning_rate: float
    """Peak learning rate, reached at the end of warmup."""
    warmup_steps: int | None = None
    """Warmup in optimizer steps. Give at most one of the three warmup keys; none means no warmup."""
    warmup_samples: int | None = None
    """Warmup in samples, rounded up to whole optimizer steps."""
    warmup_ratio: float | None = None
    """Warmup as a share of all optimizer steps, rounded up."""
    schedule: Schedule = "constant"
    """Learning rate after warmup; ``wsd`` holds it and decays linearly to 0 over the last tenth of the steps."""
    epochs: float = 1.0
    """Passes over the training data; fractions are allowed."""
    clip_norm: float = 1.0
    """Largest global gradient norm; 0 leaves gradients as they are."""
    adam_beta1: float = 0.9
    """First AdamW decay rate; 0.9 is the paper's."""
    adam_beta2: float = 0.95
    """Second AdamW decay rate; 0.95 is the paper's."""
    adam_eps: float = 1e-8
    """AdamW epsilon; the default of the paper's code."""
    weight_decay: float = 0.0
    """Decoupled weight decay; 0 in the paper's code."""
    engine: Engine = "fsdp"
    """How ranks share the model."""
    zero_stage: Literal[1, 2, 3] = 2
    """What engine ``deepspeed`` partitions over ranks: 1 optimizer state, 2 gradients too, 3 parameters too."""
    ranks: int = 1
    """Processes of the trial's gang, one per GPU (or per CPU slot)."""
    shard_ranks: int | None = None
    """Ranks that share one copy of the parameters (engine ``fsdp``); each such group holds a copy of its own. Empty
    means all ranks."""
    activation_checkpointing: bool = False
    """Keep only the inputs of each block for backward, and compute the rest again: less memory, a third more work."""
    cpu_offload: bool = False
    """Keep parameters' shards, gradients and optimizer state in the CPU's memory (not with engine ``single``; ZeRO
    below stage 3 keeps parameters on the device)."""
    precision: Precision = "fp32"
    """Compute precision; master weights and optimizer state stay fp32 either way."""
    max_tokens_per_rank: int = 8192
    """Token slots of one micro-batch on one rank. Changes speed and memory, never the numbers beyond rounding."""
    lora: LoraConfig | None = None
    """Train adapters alone and leave the model's weights as they are; empty means train all weights."""
    seed: int = 0
    """Seed of the data order, of dropout, and of fresh adapters."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "ranks", "max_tokens_per_rank"):
            if getattr(self, name) < 1:
                raise InputError("must be at least 1", where=name, got=getattr(self, name))
        for name in ("learning_rate", "epochs", "adam_eps"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError("must be finite and above 0", where=name, got=getattr(self, name))
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError("must be in [0, 1)", where=name, got=getattr(self, name))
        for name in ("warmup_steps", "warmup_samples", "weight_decay", "clip_norm", "seed"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError("must be finite and at least 0", where=name, got=value)
        if self.warmup_ratio is not None and not 0 <= self.warmup_ratio <= 1:
            raise InputError("must be between 0 and 1", where="warmup_ratio", got=self.warmup_ratio)
        given = [n for n in ("warmup_steps", "warmup_samples", "warmup_ratio") if getattr(self, n) is not None]
        if len(given) > 1:
            raise InputError("give only one warmup key", where=given[1], got=given)
        self._check_layout()

    def _check_layout(self) -> None:
        if self.shard_ranks is not None and self.engine != "fsdp":
            raise InputError("only engine 'fsdp' has it", where="shard_ranks", got=self.shard_ranks)
        if self.shard_ranks is not None and (self.shard_ranks < 1 or self.ranks % self.shard_ranks):
            raise InputError(f"must divide the {self.ranks} ranks", where="shard_ranks", got=self.shard_ranks)
        if self.cpu_offload and self.engine == "single":
            raise InputError("engine 'single' cannot", where="cpu_offload", got=True, mend="use engine: fsdp")
        if self.engine == "single" and self.ranks != 1:
            raise InputError("engine 'single' has one rank", where="ranks", got=self.ranks, mend="use engine: fsdp")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialConfig:
    """Everything that decides a trial's numbers."""

    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    eval: EvalConfig = field(default_factory=EvalConfig)
    trial: ProgramConfig | None = None
    """The user's own trainer; empty means the native one."""


def canonical_json(config: TrialConfig) -> str:
    """Return the one JSON text that equal configs share: sorted keys, no spaces, shortest float form.

    A native trial's has no key ``trial``, so that fingerprints from before there were others still hold.
    """
    plain = encode(config)
    if config.trial is None:
        del plain["trial"]
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(config: TrialConfig) -> str:
    """Return 16 hex digits of SHA-256 over the canonical JSON: the identity of a cell across runs and machines.

    64 bits keep the chance of a collision among a million cells below 3e-8.
    """
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:16]
