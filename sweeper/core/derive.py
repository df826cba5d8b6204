"""Numbers that follow from a trial's config and the size of its data, and the reasons why a cell cannot run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweeper.core.config import TrainConfig, TrialConfig
from sweeper.core.program import uneven_batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """What a trial's config implies on ``train_samples`` samples of data."""

    train_samples: int
    """Samples of one epoch, those that phased training replays included."""
    planned_samples: int
    """``epochs * train_samples`` rounded up: the same for every batch size of a sweep."""
    total_steps: int
    """Optimizer steps: enough to see at least ``planned_samples``, all of exactly ``batch_size`` samples."""
    warmup_steps: int
    warmup_origin: str
    """Which key gave ``warmup_steps``, or ``default``."""


def derive(config: TrainConfig, train_samples: int) -> Derived:
    """Return the derived numbers; assumes ``train_samples >= 1`` and does not judge feasibility."""
    # 1e-9 keeps 0.1 * 30 = 3.0000000000000004 from becoming 4 samples.
    planned = math.ceil(config.epochs * train_samples - 1e-9)
    total_steps = math.ceil(planned / config.batch_size)
    warmup_steps, origin = _warmup(config, total_steps)
    return Derived(
        train_samples=train_samples,
        planned_samples=planned,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        warmup_origin=origin,
    )


def infeasible_reason(config: TrialConfig, train_samples: int) -> str | None:
    """Return why this cell cannot run on ``train_samples`` samples, or None where it can."""
    train = config.train
    if train.batch_size > train_samples:
        return (
            f"batch_size {train.batch_size} is larger than the training data ({train_samples} samples): "
            "one step would see a sample twice"
        )
    numbers = derive(train, train_samples)
    if numbers.warmup_steps >= numbers.total_steps and numbers.warmup_steps > 0:
        return (
            f"warmup ({numbers.warmup_steps} steps from {numbers.warmup_origin}) is not shorter than training "
            f"({numbers.total_steps} steps of {train.batch_size} samples): the peak learning rate is never held"
        )
    return None if config.trial is None else uneven_batch(config.trial, train)


def _warmup(config: TrainConfig, total_steps: int) -> tuple[int, str]:
    if config.warmup_steps is not None:
        return config.warmup_steps, "warmup_steps"
    if config.warmup_samples is not None:
        return math.ceil(config.warmup_samples / config.batch_size), "warmup_samples"
    if config.warmup_ratio is not None:
        return math.ceil(config.warmup_ratio * total_steps - 1e-9), "warmup_ratio"
    return 0, "default"
