"""The least that trains the same batches: a plain PyTorch loop over tensors that were laid out before the clock.

It has no loader, no signals, no checkpoints, no evaluation and no orchestration. What it shares with ours is the layout
of the rows, the attention for it, and the trick of making logits for loss tokens alone, so that it is the ceiling for
such a layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from benchmarks.throughput.setup import LEARNING_RATE, Setup, Stopwatch, Timing
from trials.attention import set_attention
from trials.batch import MicroBatch, micro_batch
from trials.kernels import BORDERS
from trials.packing import plan


def run(setup: Setup) -> Timing:
    """Train every step with its micro-batches at hand."""
    from transformers import AutoModelForCausalLM

    device = torch.device(setup.device)
    model = AutoModelForCausalLM.from_pretrained(setup.folder, dtype=torch.float32).to(device).train()
    set_attention(model, device, setup.precision)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0, fused=True)
    data = setup.tokens()
    steps = [_micro_batches(setup, step, device) for step in range(setup.warmup_steps + setup.steps)]
    losses = []
    watch = Stopwatch(setup.device)
    for index, batches in enumerate(steps):
        if index == setup.warmup_steps:
            watch.start()
        losses.append(_step(model, optimizer, batches, setup, int(data.loss_counts[setup.chosen(index)].sum())))
    watch.stop()
    tokens = sum(batch.num_tokens for batches in steps[setup.warmup_steps :] for batch in batches)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return Timing(
        tokens=tokens,
        seconds=watch.seconds,
        cpu_seconds=watch.cpu_seconds,
        losses=tuple(map(float, losses)),
        peak_memory_bytes=peak,
    )


def _micro_batches(setup: Setup, step: int, device: torch.device) -> list[MicroBatch]:
    data, chosen = setup.tokens(), setup.chosen(step)
    planned = plan(data.lengths[chosen] - 1, max_tokens=setup.max_tokens_per_rank, ranks=1)
    return [micro_batch(data, chosen, rows[0]).to(device) for rows in planned]


def _step(model: Any, optimizer: Any, batches: list[MicroBatch], setup: Setup, loss_tokens: int) -> torch.Tensor:
    total = torch.zeros((), device=setup.device)
    for batch in batches:
        borders = dict(zip(BORDERS, [batch.borders_s] * 2 + [batch.longest] * 2, strict=True))
        with torch.autocast(setup.device, torch.bfloat16, enabled=setup.precision == "bf16"):
            hidden = model.model(batch.input_ids_rt, position_ids=batch.position_ids_rt, use_cache=False, **borders)[0]
            logits = model.lm_head(hidden.flatten(0, 1)[batch.kept_n])
        loss = functional.cross_entropy(logits.float(), batch.targets_n, reduction="sum") / loss_tokens
        loss.backward()
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total
