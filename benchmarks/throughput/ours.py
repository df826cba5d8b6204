"""Our own trial, whole: session, loop, order, packing, signals, measurement."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.throughput.setup import Setup, Stopwatch, Timing
from sweeper.core.milestones import Milestones
from trials.session import TrialSession


def run(setup: Setup, **train: Any) -> Timing:
    """Train to the first milestone off the clock and to the second on it."""
    session = TrialSession(rank=0, world_size=1, device=setup.device)
    session.connect("env://")
    warm, end = (n * setup.batch_size for n in (setup.warmup_steps, setup.warmup_steps + setup.steps))
    session.start(setup.config(**train), Milestones(samples=(warm, end)))
    first = session.advance()
    watch = Stopwatch(setup.device)
    watch.start()
    second = session.advance()
    watch.stop()
    session.close()
    assert first is not None
    assert second is not None
    losses = tuple(point.loss for point in (*first.series, *second.series))
    peak = torch.cuda.max_memory_allocated() if setup.device == "cuda" else second.peak_memory_bytes
    tokens = second.tokens_seen - first.tokens_seen
    return Timing(
        tokens=tokens,
        seconds=watch.seconds,
        cpu_seconds=watch.cpu_seconds,
        losses=losses,
        peak_memory_bytes=peak,
        mfu=second.extra.get("mfu"),
    )
