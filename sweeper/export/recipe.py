"""What is to be trained, in numbers that every trainer needs: how an effective batch is shared out over GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath

from sweeper.core.config import BUILTIN_PREFIX, LoraConfig, TrainConfig, TrialConfig
from sweeper.core.derive import Derived, derive
from sweeper.core.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """An effective batch as a trainer counts it: ``micro_batch * accumulation * gpus`` samples, exactly."""

    micro_batch: int
    """Samples of one forward pass on one GPU."""
    accumulation: int
    """Forward passes of one GPU in an optimizer step."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One trial's config, for a number of GPUs that may differ from the sweep's."""

    config: TrialConfig
    fingerprint: str
    """Of the trial in the sweep; an export for other GPUs is still that trial's."""
    gpus: int
    train_samples: int
    longest_tokens: int
    """Tokens of the longest training sample."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where builtin models and data lie on this machine, by their ``builtin:`` path."""

    @property
    def train(self) -> TrainConfig:
        return self.config.train

    @property
    def lora(self) -> LoraConfig | None:
        return self.config.train.lora

    @cached_property
    def numbers(self) -> Derived:
        return derive(self.config.train, self.train_samples)

    @cached_property
    def split(self) -> Split:
        """Return how the effective batch is met exactly, in as few forward passes as memory was given for.

        A row is as wide as the longest sample: trainers pad. ``max_tokens_per_rank`` bounds the slots of one pass.

        Raises:
            InputError: the batch cannot be divided evenly over the GPUs.
        """
        batch_size = self.config.train.batch_size
        if batch_size % self.gpus:
            near = nearest_divisors(batch_size, self.gpus)
            raise InputError(
                f"an effective batch of {batch_size} samples cannot be shared out evenly over {self.gpus} GPUs",
                where="--gpus",
                got=self.gpus,
                mend=f"nearest that can: {' or '.join(map(str, near))}; --to torchrun takes any number",
            )
        per_gpu = batch_size // self.gpus
        fits = max(1, self.config.train.max_tokens_per_rank // max(1, self.longest_tokens))
        micro_batch = max(size for size in range(1, min(per_gpu, fits) + 1) if per_gpu % size == 0)
        return Split(micro_batch=micro_batch, accumulation=per_gpu // micro_batch)

    @property
    def model(self) -> str:
        return self.place(self.config.model.path)

    @property
    def data(self) -> tuple[str, ...]:
        return tuple(self.place(path) for path in self.config.data.train)

    @property
    def folder(self) -> str:
        """Return the name of the folder that training writes to, relative to where it is started."""
        return f"trial-{self.fingerprint}"

    def place(self, path: str) -> str:
        """Return what another program can open: a builtin path is replaced by where it lies."""
        return self.places.get(path, path)

    @property
    def builtins(self) -> tuple[str, ...]:
        """Return the builtin paths that the trial trains with."""
        named = (self.config.model.path, *self.config.data.train)
        return tuple(path for path in named if path.startswith(BUILTIN_PREFIX))


def nearest_divisors(batch_size: int, gpus: int) -> tuple[int, ...]:
    """Return the largest divisor of ``batch_size`` below ``gpus`` and the smallest one above, as far as they exist."""
    divisors = [number for number in range(1, batch_size + 1) if batch_size % number == 0]
    below = [number for number in divisors if number < gpus][-1:]
    above = [number for number in divisors if number > gpus][:1]
    return (*below, *above)


def data_kind(path: str) -> str | None:
    """Return ``json`` or ``parquet`` for a file by its name's end; None for a data set's name or a folder."""
    return {".jsonl": "json", ".json": "json", ".parquet": "parquet"}.get(PurePath(path).suffix)


def named_split(path: str) -> tuple[str, str]:
    """Return the name of a data set and its split: ``org/name[train_sft]`` is ``org/name``, ``train_sft``."""
    name, bracket, rest = path.partition("[")
    return (name, rest.removesuffix("]")) if bracket else (path, "train")
