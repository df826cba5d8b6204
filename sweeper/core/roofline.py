"""Time of a training step by roofline: the largest of computing, reading weights, and talking to the other ranks.

Williams, Waterman and Patterson 2009, "Roofline", CACM 52(4). Peaks are what data sheets print; how much of the peak
is reached is assumed until a trial has shown it (``fit``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.core.accelerators import Accelerator
from sweeper.core.config import TrainConfig
from sweeper.core.micro_batch import Batches, Lengths
from sweeper.core.shape import ModelShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one trial has to do, in seconds at the device's peak."""

    compute_s: float
    """Model FLOPs of all steps over the peak of all ranks."""
    fixed_s: float
    """What each step takes whatever its batch: the optimizer reads and writes its state, ranks exchange."""
    flops: float
    """Model FLOPs, in the convention of the signal ``model_flops_per_s``."""
    evaluation_s: float
    """Forward passes over the test sets at all milestones, at the peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How a device does against its peak; learned from trials or assumed."""

    compute: float
    """Seconds per second at the peak."""
    fixed: float = 1.0
    trials: int = 0
    """Trials that it was learned from."""
    probes: int = 0
    """Cells that it was probed with."""

    def train_s(self, work: Work) -> float:
        return self.compute * work.compute_s + self.fixed * work.fixed_s

    def evaluation_s(self, work: Work) -> float:
        return self.compute * work.evaluation_s


def flops_per_sample(shape: ModelShape, lengths: Lengths, train: TrainConfig) -> float:
    """Return the model FLOPs of training on one sample of mean length; ``trials.flops`` counts the same way."""
    trained = shape.active_parameters
    active = shape.active_parameters
    if train.lora is not None:
        adapters = shape.adapters(train.lora).trained
        trained, active = adapters, active + adapters
    windows = shape.windows or (None,) * shape.layers
    pairs = sum(lengths.pairs(window) * windows.count(window) for window in set(windows))
    return (4 * active + 2 * trained) * lengths.mean + 12 * shape.query_width * pairs


def work_of(
    shape: ModelShape,
    train: TrainConfig,
    lengths: Lengths,
    each: Batches,
    device: Accelerator,
    *,
    steps: int,
    test_tokens: float,
    milestones: int,
) -> Work:
    """Return what a trial of ``steps`` optimizer steps has to do."""
    peak = device.flops_fp32 if train.precision == "fp32" else device.flops_bf16
    per_sample = flops_per_sample(shape, lengths, train)
    flops = per_sample * train.batch_size * steps
    # Activation checkpointing computes each block's forward pass once more.
    done = flops * (4 / 3 if train.activation_checkpointing else 1)
    trained = shape.adapters(train.lora).trained if train.lora else shape.parameters
    # AdamW reads weight, gradient and two moments, and writes all but the gradient: 28 bytes a weight.
    update_s = 28 * trained / _sharers(train) / device.bandwidth
    forward = per_sample / lengths.mean * test_tokens / 3
    return Work(
        compute_s=max(done / (peak * train.ranks), steps * _talk_s(shape, train, each, device)),
        fixed_s=steps * update_s,
        flops=flops,
        evaluation_s=milestones * forward / (peak * train.ranks),
    )


def _sharers(train: TrainConfig) -> int:
    return train.shard_ranks or (1 if train.engine == "single" else train.ranks)


def _talk_s(shape: ModelShape, train: TrainConfig, each: Batches, device: Accelerator) -> float:
    """Return the seconds that one step's exchange takes where nothing hides it.

    Sharded parameters are gathered for forward and for backward of each micro-batch; gradients are summed once a step,
    in fp32 (ZeRO, arXiv 1910.02054, section 7).
    """
    if train.ranks == 1:
        return 0.0
    half = 4 if train.precision == "fp32" else 2
    sharers = _sharers(train)
    is_gathered = train.engine == "fsdp" or (train.engine == "deepspeed" and train.zero_stage == 3)
    gathers = 2 * each.micro_batches if is_gathered else 1
    trained = shape.adapters(train.lora).trained if train.lora else shape.parameters
    moved = half * shape.parameters * gathers * (sharers - 1) / sharers + 4 * trained * (train.ranks - 1) / train.ranks
    return moved / device.link


def fit(observed: Sequence[tuple[Work, float]], assumed: Speed, *, least: int = 3) -> Speed:
    """Return the speed that explains what earlier trials took, as (work, seconds of training).

    One trial sets the share of the peak. From ``least`` on, with different batch sizes, what a step costs apart from
    its samples is learned as well, by least squares on relative errors; neither can be negative.
    """
    if not observed:
        return assumed
    rows = np.array([[work.compute_s, work.fixed_s] for work, _ in observed])
    seconds = np.array([taken for _, taken in observed])
    ratios = rows[:, 1] / rows[:, 0]
    if len(observed) >= least and ratios.max() > 2 * ratios.min():
        found, *_ = np.linalg.lstsq(rows / seconds[:, None], np.ones(len(rows)), rcond=None)
        if (found > 0).all():
            return Speed(compute=float(found[0]), fixed=float(found[1]), trials=len(observed))
    left = np.maximum(seconds - assumed.fixed * rows[:, 1], 0.05 * seconds)
    return Speed(compute=float(np.median(left / rows[:, 0])), fixed=assumed.fixed, trials=len(observed))
