"""A few real optimizer steps of a trial, timed and weighed, by which a plan is corrected; nothing of them is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sweeper.core.config import TrialConfig
from trials.alone import launch, launched, read_config
from trials.corpus import load_data
from trials.feed import Feed
from trials.gang import Gang, choose_device, connect, share_cores
from trials.loop import Trial
from trials.memory import peak_bytes, reset_peak
from trials.oom import size_of
from trials.order import Order
from trials.probe import Place
from trials.session import check_fit, make_engine
from trials.source import go_offline

_FAR_FROM_A_MILESTONE = Place(left=10**9, of=10**9)


def run_steps(file: Path, out: Path, *, steps: int) -> int:
    """Take one step to warm up and then ``steps`` more, and write what they cost to ``out`` as JSON.

    Ranks are started here unless torchrun has started them. Returns 1 where one of them failed.

    Raises:
        InputError: config, model or data cannot be used.
    """
    config = read_config(file)
    place = launched()
    if place is None and config.train.ranks > 1:
        return launch(config.train.ranks, ["steps", str(file), "--steps", str(steps), "--out", str(out)])
    rank, ranks = place or (0, 1)
    costs = measure_steps(config, steps=steps, rank=rank, ranks=ranks)
    if rank == 0:
        out.write_text(json.dumps(costs), encoding="utf-8")
    return 0


def measure_steps(config: TrialConfig, *, steps: int, rank: int, ranks: int) -> dict[str, Any]:
    """Return what the first steps of a trial cost, after one to warm up where it has more than one.

    ``seconds`` and ``flops`` are of ``steps`` steps; ``peak_memory_bytes`` is the highest of all ranks since before the
    model was loaded, of the device on a GPU and resident on a CPU; ``tokens``, ``loss_tokens`` and ``micro_batches``
    are those of the fullest micro-batch; ``max_tokens_per_rank`` is lower than the config's where that did not fit.
    """
    go_offline(config.model, config.data)
    share_cores(ranks)
    gang = Gang(rank=rank, world_size=ranks, device=choose_device(None))
    connect(gang, "env://")
    try:
        train, _ = load_data(config)
        check_fit(train, config.train.max_tokens_per_rank)
        reset_peak(gang.device)
        engine = make_engine(config, gang)
        engine.reset(config.train)
        trial = Trial(config, None, train=train, evaluation=None, engine=engine, gang=gang)
        taken: list[float] = []
        flops: list[float] = []
        while len(taken) <= steps and not trial.is_over:
            before = trial.flops
            taken.append(trial.take_step()[0].seconds)
            flops.append(trial.flops - before)
        order = Order(config, train)
        feed = Feed(train, order, config.train.batch_size, gang, engine.layout, lambda step: _FAR_FROM_A_MILESTONE)
        data = [feed.take(step, trial.max_tokens_per_rank) for step in range(len(taken))]
        sizes = [size_of(rows, each.loss_counts, index=0, step=0) for each in data for rows in each.rows]
        peak = torch.tensor([peak_bytes(gang.device)], device=gang.device)
        # The first step also compiles kernels, and makes the optimizer's state.
        timed = slice(min(1, len(taken) - 1), None)
        return {
            "steps": len(taken[timed]),
            "seconds": sum(taken[timed]),
            "flops": sum(flops[timed]),
            "peak_memory_bytes": int(gang.max(peak)),
            "tokens": max(size[0] for size in sizes),
            "loss_tokens": max(size[2] for size in sizes),
            "micro_batches": max(len(each.rows) for each in data),
            "max_tokens_per_rank": trial.max_tokens_per_rank,
            "device": gang.device_name,
        }
    finally:
        dist.destroy_process_group()
