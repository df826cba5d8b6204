"""What each engine holds at the moments of a step when memory can peak; see ``sweeper.core.memory``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sweeper.core.activations import Compute
from sweeper.core.config import TrainConfig
from sweeper.core.memory_terms import Device, Load, Memory, Sizes, passes
from sweeper.core.shape import ModelShape

SMALL_BLOCK_PARAMETERS: Final = 1_000_000
"""Below this engine fsdp gathers all blocks together; ``trials.engines.fsdp`` has the same number."""
ZERO_BUCKET: Final = 500_000_000
"""Elements of DeepSpeed's reduce bucket (``reduce_bucket_size``, deepspeed 0.19), which it allocates whole."""
ZERO_LIVE: Final = 1_000_000_000
"""Parameters that ZeRO 3 keeps gathered (``stage3_max_live_parameters``, deepspeed 0.19)."""


_Row = tuple[str, float, float, float, float]
"""A moment of a step: its name, gradients, activations, logits, buffers."""


def _moments(state: Memory, *rows: _Row) -> tuple[Memory, ...]:
    """Return what is held throughout with what each moment adds to it."""
    return tuple(
        replace(state, moment=moment, gradients=gradients, activations=activations, logits=logits, buffers=buffers)
        for moment, gradients, activations, logits, buffers in rows
    )


def single(shape: ModelShape, train: TrainConfig, load: Load, sizes: Sizes, device: Device) -> Sequence[Memory]:
    compute: Compute = "fp32" if train.precision == "fp32" else "autocast"
    run = passes(shape, train, load, sizes, compute, device)
    half = 4 if compute == "fp32" else 2
    state = Memory(
        parameters=4 * (sizes.trained + sizes.frozen) + half * sizes.frozen_half,
        optimizer=8 * sizes.trained,
    )
    whole = 4 * sizes.trained if load.micro_batches > 1 else 0.0
    # A weight's gradient is made whole before it is added to what is there.
    fresh = 4 * sizes.largest if load.micro_batches > 1 or (shape.tied and train.lora is None) else 0.0
    head = 4.0 * shape.embedding_parameters if train.lora is None else 0.0
    # Autocast's copies of fp32 matrices live until backward has passed them; computed again, those of one block.
    all_copies, block_copies = 0.0, 0.0
    if compute == "autocast":
        block_copies = 2 * (shape.linear_parameters - sizes.frozen_half / shape.layers)
        all_copies = 2.0 * shape.embedding_parameters
        all_copies += block_copies * (1 if train.activation_checkpointing else shape.layers)
    held = run.held_logits
    last = max(whole, head) + (fresh if whole else 0.0)
    # The embedding's gradient comes last, when the blocks are done.
    first = max(whole, 4 * sizes.trained - (0 if shape.tied else head)) + (fresh if whole else 0.0)
    return _moments(
        state,
        ("loss", whole, run.all_kept, run.loss, all_copies),
        ("backward of the last block", last, run.kept + run.working, held, all_copies),
        ("backward of the first block", first, run.one_block + run.working, held, block_copies),
        ("backward of the embedding", 4 * sizes.trained + fresh, 0.0, held, 0.0),
        # At milestones (trials.probe.update_squares): two temporaries of one tensor while all gradients are there.
        ("measuring the update", 4 * sizes.trained, 0.0, 0.0, 8 * sizes.largest),
    )


def fsdp(shape: ModelShape, train: TrainConfig, load: Load, sizes: Sizes, device: Device) -> Sequence[Memory]:
    """Return loss, last and first block, and the exchange of what lies outside the blocks.

    FSDP2 gathers block by block, the next one while one computes, each once as it comes from the ranks and once in
    place; embedding, output layer and norms stay gathered throughout. Gradients are whole where they are made, and are
    copied into fp32 to be summed; between the micro-batches of one step all of them are kept whole.
    """
    compute: Compute = "fp32" if train.precision == "fp32" else "bf16"
    run = passes(shape, train, load, sizes, compute, device)
    half = 4 if compute == "fp32" else 2
    ranks = train.shard_ranks or train.ranks
    block, block_gradient, root_gradient = _fsdp_units(shape, train, sizes)
    root = sizes.total - shape.layers * block
    state = _fsdp_state(train, sizes, half, ranks)
    shard = 0.0 if train.cpu_offload else 4 * sizes.trained / ranks
    whole = 4 * sizes.trained if load.micro_batches > 1 else 0.0
    # What lies outside the blocks; the block at work, and the next one on its way.
    gathered, gathering = half * root, 2 * half * block
    # Copied into fp32 to be summed, and the sum. A CPU copies twice; a GPU keeps the block's before until it is sent.
    copies = 2.0 if device == "cpu" else 2 + 1 / ranks
    exchanging = (half + 4 * copies) * block_gradient
    sent = 4 * block_gradient if device == "cuda" else 0.0
    root_copies = 4 * root_gradient * (2 if device == "cpu" else 1 + 1 / ranks)
    head = max(whole, half * min(shape.embedding_parameters, root_gradient))
    made = max(whole, half * root_gradient)
    twice = half * shape.embedding_parameters if shape.tied and root_gradient else 0.0
    spread = shard * shape.layers * block_gradient / sizes.trained
    held, working = run.held_logits, run.working
    *found, last = _moments(
        state,
        ("loss", whole, run.all_kept, run.loss, gathered),
        ("backward of the last block", head, run.kept + working, held, gathered + gathering),
        ("exchange of the last block", head, run.kept - run.one_block, held, gathered + gathering + exchanging),
        ("backward of the first block", head + spread, run.one_block + working, held, gathered + half * block + sent),
        ("backward of the embedding", made + twice + spread, 0.0, held, gathered + half * block + exchanging),
        ("exchange of the embedding", made + spread, 0.0, held, gathered + root_copies),
    )
    # Offloaded, the summed gradient lies on the host as well.
    return (*found, replace(last, host=last.host + 4 * sizes.trained / ranks) if train.cpu_offload else last)


def _fsdp_units(shape: ModelShape, train: TrainConfig, sizes: Sizes) -> tuple[float, float, float]:
    """Return the parameters of one block that is gathered on its own, and the trained ones in it and outside of blocks.

    Blocks that are too small for that are gathered with the rest; the first two numbers are then 0.
    """
    wrapped = sizes.block >= SMALL_BLOCK_PARAMETERS
    block = sizes.block if wrapped else 0.0
    if train.lora is not None:
        return block, sizes.trained / shape.layers if wrapped else 0.0, 0.0 if wrapped else sizes.trained
    block_gradient = sizes.trained / sizes.total * block
    return block, block_gradient, sizes.trained - shape.layers * block_gradient


def _fsdp_state(train: TrainConfig, sizes: Sizes, half: int, ranks: int) -> Memory:
    """Return what a rank holds throughout: its share of weights and moments."""
    held = 4 * (sizes.trained + sizes.frozen) + half * sizes.frozen_half
    if train.cpu_offload:
        return Memory(host=(held + 8 * sizes.trained) / ranks)
    return Memory(parameters=held / ranks, optimizer=8 * sizes.trained / ranks)


def deepspeed(shape: ModelShape, train: TrainConfig, load: Load, sizes: Sizes, device: Device) -> Sequence[Memory]:
    """Return the start, loss, last and first block, and the optimizer's step under ZeRO.

    DeepSpeed 0.19 as ``trials.engines.deepspeed`` sets it up: the whole model comes to the device in fp32 before it is
    partitioned; fp32 masters, and gradients in the precision of the pass, lie in each rank's partition (stage 1 keeps
    all gradients); a bucket of ``ZERO_BUCKET`` elements collects gradients; stage 3 keeps up to ``ZERO_LIVE``
    parameters gathered. On a CPU the bucket is left out: it is never filled there.
    """
    compute: Compute = "fp32" if train.precision == "fp32" else "bf16"
    run = passes(shape, train, load, sizes, compute, device)
    half = 4 if compute == "fp32" else 2
    own, in_bucket = sizes.trained / train.ranks, half * min(sizes.trained, ZERO_BUCKET)
    held = half * sizes.total / (train.ranks if train.zero_stage == 3 else 1)
    bucket = float(half * ZERO_BUCKET) if device == "cuda" else 0.0
    gathered = half * min(sizes.total, ZERO_LIVE) if train.zero_stage == 3 else 0.0
    state = Memory(parameters=held + 4 * own, optimizer=8 * own)
    made, partition = half * sizes.trained, half * own
    if train.cpu_offload:
        on_device = 0.0 if train.zero_stage == 3 else held
        state = Memory(parameters=on_device, host=held - on_device + (12 + half) * own)
        partition = 0.0
    # Stages 1 and 2 exchange when the backward pass is over, stage 3 while it runs.
    before = partition if train.zero_stage == 3 else 0.0
    if load.micro_batches > 1:
        before = made if train.zero_stage == 1 else partition
    last = before if train.zero_stage == 3 else max(before, made)
    # Filled, a bucket is laid out once more by the ranks it goes to; in stage 3 while blocks are still at work.
    early = in_bucket if train.zero_stage == 3 else 0.0
    held_logits, buffers = run.held_logits, bucket + gathered
    return (
        Memory(moment="start", parameters=4.0 * sizes.total),
        *_moments(
            state,
            ("loss", before, run.all_kept, run.loss, buffers),
            ("backward of the last block", before + half * sizes.largest, run.kept + run.working, held_logits, buffers),
            ("backward of the first block", last + early, run.one_block + run.working, held_logits, buffers + early),
            ("exchange of gradients", last + partition, 0.0, 0.0, buffers + in_bucket),
        ),
        _zero_step(state, train, own, partition, half),
    )


def _zero_step(state: Memory, train: TrainConfig, own: float, partition: float, half: int) -> Memory:
    """Return ZeRO's optimizer step: gradients once more as fp32, and two temporaries of AdamW over a flat partition.

    Stage 3 steps over at most ``ZERO_LIVE`` weights at a time (``sub_group_size``).
    """
    at_once = min(own, ZERO_LIVE) if train.zero_stage == 3 else own
    masters = 4 * at_once if half == 2 else 0.0
    if train.cpu_offload:
        return replace(state, moment="optimizer step", host=state.host + masters + 8 * at_once)
    return replace(state, moment="optimizer step", gradients=2 * partition + masters, buffers=8 * at_once)
