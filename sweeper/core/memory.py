"""Memory of one rank by calculation: numbers in, bytes out, for any engine and any size, with nothing loaded.

A training step is followed through its phases; the largest decides. Where the bytes come from is counted tensor by
tensor from what the engines do (``trials/engines``), after Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054, section 3)
for the state of a sharded AdamW: fp32 weights, gradients and two moments, 16 bytes per weight, each divided by the
ranks that share it. ``benchmarks/plan_memory.py`` holds it against what an allocator counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sweeper.core import memory_engines
from sweeper.core.config import TrainConfig
from sweeper.core.memory_terms import Device, Load, Memory, sizes_of
from sweeper.core.shape import ModelShape

MARGIN_SHARE: Final = 0.05
"""Left free for what the caching allocator cannot give out again in other sizes. A choice, not a measurement."""
CUDA_CONTEXT_BYTES: Final = 1.0e9
"""CUDA context, kernels and NCCL's buffers, which no allocator of torch counts. A choice, not a measurement."""


def estimate(shape: ModelShape, train: TrainConfig, load: Load, device: Device = "cuda") -> Memory:
    """Return the memory of one rank at the peak of its largest micro-batch.

    Held against an allocator on a CPU; what is particular to a GPU (its attention kernels, ``margin``) is calculated
    only. Evaluation is not in it: its logits are no more than those of training where test samples are no longer.
    """
    found = phases(shape, train, load, device)
    # A node's first rank reads the whole model in fp32; from then on it is there once, as stored or in no more bytes.
    peak = replace(
        max(found, key=lambda phase: phase.device),
        host=max(phase.host for phase in found),
        base=4.0 * shape.parameters,
    )
    if device == "cpu":
        return peak
    return replace(peak, margin=MARGIN_SHARE * peak.device + CUDA_CONTEXT_BYTES)


def phases(shape: ModelShape, train: TrainConfig, load: Load, device: Device = "cuda") -> Sequence[Memory]:
    """Return the moments of a step at which memory can peak, without margin."""
    of_engine = {
        "single": memory_engines.single,
        "fsdp": memory_engines.fsdp,
        "deepspeed": memory_engines.deepspeed,
    }[train.engine]
    return of_engine(shape, train, load, sizes_of(shape, train), device)
