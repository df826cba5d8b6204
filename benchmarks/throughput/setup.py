"""What every contender trains: the same model, tokens, effective batch, precision and optimizer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.core.config import DataConfig, EvalConfig, ModelConfig, Precision, TrainConfig, TrialConfig
from trials.corpus import load_data
from trials.data import TokenSet
from trials.order import Order

MAX_LENGTH: Final = 2048
"""Longest sample in tokens; the synthetic chats stay below."""
LEARNING_RATE: Final = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """One comparison."""

    folder: str
    """Model with tokenizer, and ``train.jsonl``."""
    batch_size: int
    max_tokens_per_rank: int
    """Token slots of a micro-batch; padded contenders take as many of the longest samples as fit."""
    warmup_steps: int
    """Optimizer steps before the clock starts."""
    steps: int
    """Optimizer steps on the clock."""
    precision: Precision
    device: str
    seed: int

    def config(self, **train: Any) -> TrialConfig:
        """Return the trial config of our own engines."""
        samples = (self.warmup_steps + self.steps) * self.batch_size
        settings: dict[str, Any] = {
            "batch_size": self.batch_size,
            "learning_rate": LEARNING_RATE,
            "engine": "single",
            "precision": self.precision,
            "max_tokens_per_rank": self.max_tokens_per_rank,
            "seed": self.seed,
            "epochs": samples / len(self.tokens()),
        }
        return TrialConfig(
            model=self._model,
            data=self._data,
            train=TrainConfig(**(settings | train)),
            eval=EvalConfig(milestones=1),
        )

    @property
    def _model(self) -> ModelConfig:
        return ModelConfig(path=self.folder)

    @property
    def _data(self) -> DataConfig:
        return DataConfig(train=(str(Path(self.folder) / "train.jsonl"),), max_length=MAX_LENGTH, over_long="truncate")

    def tokens(self) -> TokenSet:
        """Return the tokenised samples, the same arrays for all contenders."""
        train = TrainConfig(batch_size=1, learning_rate=LEARNING_RATE)
        return load_data(TrialConfig(model=self._model, data=self._data, train=train))[0]

    def chosen(self, step: int) -> NDArray[np.int64]:
        """Return the samples of our own order's optimizer step, [batch_size]."""
        return Order(self.config(), self.tokens()).batch(step, self.batch_size)

    def rows_per_micro_batch(self, row_length: int) -> int:
        """Return how many rows of this length fit into a micro-batch."""
        return max(1, self.max_tokens_per_rank // row_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What a contender did on the clock."""

    tokens: int
    """Real tokens of the samples, padding excluded."""
    seconds: float
    cpu_seconds: float
    """Processor time of the process on the clock: what is left of a comparison when others use the machine too."""
    losses: tuple[float, ...] = ()
    """Mean cross-entropy per loss token of each step, where the contender says."""
    peak_memory_bytes: int = 0
    mfu: float | None = None
    """Model FLOPs utilisation, where the contender says and the device's peak is known."""


class Stopwatch:
    """Wall-clock and processor time between ``start`` and ``stop``, the device's work included."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.seconds = self.cpu_seconds = 0.0

    def start(self) -> None:
        self._wait()
        self._began_s, self._cpu_began_s = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self._wait()
        self.seconds = time.perf_counter() - self._began_s
        self.cpu_seconds = time.process_time() - self._cpu_began_s

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()
