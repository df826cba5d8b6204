"""Memory of one rank by calculation: numbers in, bytes out, for any engine and any size, with nothing loaded.

A training step is followed through its phases; the largest decides. Where the bytes come from is counted tensor by
tensor from what the engines do (``trials/engines``), after Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054, section 3)
for the state of a sharded AdamW: fp32 weights, gradients and two moments, 16 bytes per weight, each divided by the
ranks that share it. ``benchmarks/plan_memory.py`` holds it against what an allocator counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal

from sweeper.core.activations import Compute, held_logits_bytes, kept, logits_bytes
from sweeper.core.config import TrainConfig
from sweeper.core.shape import AdapterShape, ModelShape

Device = Literal["cuda", "cpu"]
SMALL_BLOCK_PARAMETERS: Final = 1_000_000
"""Below this engine fsdp gathers all blocks together; ``trials.engines.fsdp`` has the same number."""
ZERO_BUCKET: Final = 500_000_000
"""Elements of DeepSpeed's reduce bucket (``reduce_bucket_size``, deepspeed 0.19), which it allocates whole."""
ZERO_LIVE: Final = 1_000_000_000
"""Parameters that ZeRO 3 keeps gathered (``stage3_max_live_parameters``, deepspeed 0.19)."""
MARGIN_SHARE: Final = 0.05
"""Left free for what the caching allocator cannot give out again in other sizes. A choice, not a measurement."""
CUDA_CONTEXT_BYTES: Final = 1.0e9
"""CUDA context, kernels and NCCL's buffers, which no allocator of torch counts. A choice, not a measurement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The largest micro-batch of one rank, and how many make up a batch."""

    tokens: int
    """Token slots."""
    loss_tokens: int
    """Slots whose logits are computed."""
    micro_batches: int
    """Per optimizer step; more than one is accumulation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes of one rank at the peak of a step, by part."""

    parameters: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    buffers: float = 0.0
    """Gathered weights, and gradients on their way between ranks."""
    margin: float = 0.0
    """What fragmentation and the device's own libraries take."""
    host: float = field(default=0.0)
    """On the CPU's side: base weights to begin the next trial with, and what is offloaded."""
    moment: str = ""
    """When in a step this is."""

    @property
    def device(self) -> float:
        """All that lies on the device."""
        return float(sum(getattr(self, part) for part in PARTS))


PARTS: Final = tuple(one.name for one in fields(Memory) if one.name not in ("host", "moment"))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sizes:
    """Parameters by what becomes of them."""

    trained: float
    frozen_half: float
    """Frozen ones that are held in the precision of the trial."""
    frozen: float
    """Frozen ones that are held in fp32."""
    block: float
    """Of one block, adapters included."""
    outside: float
    largest: float
    """Of the largest matrix that is trained."""
    trained_share: float
    adapters: AdapterShape | None

    @property
    def total(self) -> float:
        return self.trained + self.frozen_half + self.frozen


def estimate(shape: ModelShape, train: TrainConfig, load: Load, device: Device = "cuda") -> Memory:
    """Return the memory of one rank at the peak of its largest micro-batch.

    Held against an allocator on a CPU; what is particular to a GPU (its attention kernels, ``margin``) is calculated
    only. Evaluation is not in it: its logits are no more than those of training where test samples are no longer.
    """
    found = phases(shape, train, load, device)
    # Before it is spread, every rank holds the whole model in fp32 on the CPU's side.
    loaded = 4 * shape.parameters
    host = max(loaded, *(phase.host for phase in found))
    peak = replace(max(found, key=lambda phase: phase.device), host=host)
    if device == "cpu":
        return peak
    return replace(peak, margin=MARGIN_SHARE * peak.device + CUDA_CONTEXT_BYTES)


def phases(shape: ModelShape, train: TrainConfig, load: Load, device: Device = "cuda") -> Sequence[Memory]:
    """Return the moments of a step at which memory can peak, without margin."""
    of_engine = {"single": _single, "fsdp": _fsdp, "deepspeed": _deepspeed}[train.engine]
    return of_engine(shape, train, load, _sizes(shape, train), device)


def _sizes(shape: ModelShape, train: TrainConfig) -> _Sizes:
    if train.lora is None:
        largest = max(shape.embedding_parameters, shape.hidden * shape.intermediate)
        return _Sizes(
            trained=shape.parameters,
            frozen_half=0,
            frozen=0,
            block=shape.block_parameters,
            outside=shape.outside_parameters,
            largest=largest,
            trained_share=1.0,
            adapters=None,
        )
    adapters = shape.adapters(train.lora)
    block = shape.block_parameters + adapters.trained / shape.layers
    return _Sizes(
        trained=adapters.trained,
        frozen_half=adapters.adapted,
        frozen=shape.parameters - adapters.adapted,
        block=block,
        outside=shape.outside_parameters,
        largest=adapters.rank * max(shape.hidden, shape.intermediate),
        trained_share=adapters.trained / (shape.layers * block),
        adapters=adapters,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pass:
    """Bytes of activations and logits of one micro-batch, by moment."""

    all_kept: float
    """All that is kept when backward begins."""
    kept: float
    """Of all blocks, when backward comes to the last one; where they are computed again, with that one's."""
    one_block: float
    """Of the block whose backward runs."""
    working: float
    loss: float
    """Logits and what their loss needs."""
    held_logits: float


def _passes(
    shape: ModelShape, train: TrainConfig, load: Load, sizes: _Sizes, compute: Compute, device: Device
) -> _Pass:
    each = kept(shape, compute, sizes.adapters, copies_attention=device == "cpu" or train.precision == "fp32")
    half = 4 if compute == "fp32" else 2
    rotary = 2 * shape.head_dim * (2 if compute == "bf16" else 4)
    recomputed = each.block if train.activation_checkpointing else 0.0
    blocks = shape.layers * (each.block_input if train.activation_checkpointing else each.block)
    return _Pass(
        all_kept=load.tokens * (blocks + rotary + each.tail) + load.loss_tokens * shape.hidden * half,
        kept=load.tokens * (blocks + recomputed + rotary),
        one_block=load.tokens * each.block,
        working=load.tokens * each.working,
        loss=load.loss_tokens * logits_bytes(shape.vocab, compute),
        held_logits=load.loss_tokens * held_logits_bytes(shape.vocab, compute),
    )


def _single(shape: ModelShape, train: TrainConfig, load: Load, sizes: _Sizes, device: Device) -> Sequence[Memory]:
    compute: Compute = "fp32" if train.precision == "fp32" else "autocast"
    run = _passes(shape, train, load, sizes, compute, device)
    half = 4 if compute == "fp32" else 2
    state = Memory(
        parameters=4 * (sizes.trained + sizes.frozen) + half * sizes.frozen_half,
        optimizer=8 * sizes.trained,
        host=4 * sizes.trained,
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
    return (
        replace(state, moment="loss", gradients=whole, activations=run.all_kept, logits=run.loss, buffers=all_copies),
        replace(
            state,
            moment="backward of the last block",
            gradients=max(whole, head) + (fresh if whole else 0.0),
            activations=run.kept + run.working,
            logits=run.held_logits,
            buffers=all_copies,
        ),
        replace(
            state,
            moment="backward of the first block",
            # The embedding's comes last, when the blocks are done.
            gradients=max(whole, 4 * sizes.trained - (0 if shape.tied else head)) + (fresh if whole else 0.0),
            activations=run.one_block + run.working,
            logits=run.held_logits,
            buffers=block_copies,
        ),
        replace(state, moment="backward of the embedding", gradients=4 * sizes.trained + fresh, logits=run.held_logits),
    )


def _fsdp(shape: ModelShape, train: TrainConfig, load: Load, sizes: _Sizes, device: Device) -> Sequence[Memory]:
    """Return loss, last and first block, and the exchange of what lies outside the blocks.

    FSDP2 gathers block by block, the next one while one computes, each once as it comes from the ranks and once in
    place; embedding, output layer and norms stay gathered throughout. Gradients are whole where they are made, and are
    copied into fp32 to be summed; between the micro-batches of one step all of them are kept whole.
    """
    compute: Compute = "fp32" if train.precision == "fp32" else "bf16"
    run = _passes(shape, train, load, sizes, compute, device)
    half = 4 if compute == "fp32" else 2
    ranks = train.shard_ranks or train.ranks
    wrapped = sizes.block >= SMALL_BLOCK_PARAMETERS
    block = sizes.block if wrapped else 0.0
    root = sizes.total - shape.layers * block
    share = sizes.trained / sizes.total
    block_gradient, root_gradient = share * block, sizes.trained - shape.layers * share * block
    if train.lora is not None:
        block_gradient = sizes.trained / shape.layers if wrapped else 0.0
        root_gradient = 0.0 if wrapped else sizes.trained
    held = 4 * (sizes.trained + sizes.frozen) + half * sizes.frozen_half
    state = Memory(parameters=held / ranks, optimizer=8 * sizes.trained / ranks, host=4 * sizes.trained / ranks)
    shard = 4 * sizes.trained / ranks
    if train.cpu_offload:
        state = Memory(host=(4 * sizes.trained + held + 8 * sizes.trained) / ranks)
    summed = {"host": state.host + shard} if train.cpu_offload else {}
    shard = 0.0 if train.cpu_offload else shard
    whole = 4 * sizes.trained if load.micro_batches > 1 else 0.0
    gathered = half * root
    flowing = half * 3 * block + half * block_gradient + 4 * block_gradient * (1 + 1 / ranks)
    head = half * min(shape.embedding_parameters, root_gradient)
    made = half * root_gradient
    return (
        replace(state, moment="loss", gradients=whole, activations=run.all_kept, logits=run.loss, buffers=gathered),
        replace(
            state,
            moment="backward of the last block",
            gradients=max(whole, head),
            activations=run.kept + run.working,
            logits=run.held_logits,
            buffers=gathered + flowing,
        ),
        replace(
            state,
            moment="backward of the first block",
            gradients=max(whole, made) + shard * (shape.layers * block_gradient / max(sizes.trained, 1)),
            activations=run.one_block + run.working,
            logits=run.held_logits,
            buffers=gathered + flowing,
        ),
        replace(
            state,
            moment="exchange of the embedding's gradient",
            gradients=max(whole, made) + shard,
            logits=run.held_logits,
            buffers=gathered + 4 * root_gradient * (1 + 1 / ranks),
            **summed,
        ),
    )


def _deepspeed(shape: ModelShape, train: TrainConfig, load: Load, sizes: _Sizes, device: Device) -> Sequence[Memory]:
    """Return the start, loss, last and first block, and the optimizer's step under ZeRO.

    DeepSpeed 0.19 as ``trials.engines.deepspeed`` sets it up: the whole model comes to the device in fp32 before it is
    partitioned; fp32 masters, and gradients in the precision of the pass, lie in each rank's partition (stage 1 keeps
    all gradients); a bucket of ``ZERO_BUCKET`` elements collects gradients; stage 3 keeps up to ``ZERO_LIVE``
    parameters gathered. On a CPU the bucket is left out: it is never filled there.
    """
    compute: Compute = "fp32" if train.precision == "fp32" else "bf16"
    run = _passes(shape, train, load, sizes, compute, device)
    half = 4 if compute == "fp32" else 2
    own = sizes.trained / train.ranks
    held = half * sizes.total / (train.ranks if train.zero_stage == 3 else 1)
    gradients = half * (sizes.trained if train.zero_stage == 1 else own)
    kept_before = gradients if load.micro_batches > 1 or train.zero_stage == 3 else 0.0
    bucket = float(half * ZERO_BUCKET) if device == "cuda" else 0.0
    gathered = half * min(sizes.total, ZERO_LIVE) if train.zero_stage == 3 else 0.0
    state = Memory(parameters=held + 4 * own, optimizer=8 * own, host=4 * sizes.total)
    if train.cpu_offload:
        on_device = 0.0 if train.zero_stage == 3 else held
        state = Memory(parameters=on_device, host=4 * sizes.total + held - on_device + 12 * own + gradients)
        gradients = kept_before = 0.0
    made = half * sizes.trained if device == "cpu" else 0.0
    return (
        Memory(moment="start", parameters=4.0 * sizes.total, host=4 * sizes.total),
        replace(
            state,
            moment="loss",
            gradients=kept_before,
            activations=run.all_kept,
            logits=run.loss,
            buffers=bucket + gathered,
        ),
        replace(
            state,
            moment="backward of the last block",
            gradients=kept_before + 4 * sizes.largest,
            activations=run.kept + run.working,
            logits=run.held_logits,
            buffers=bucket + gathered,
        ),
        replace(
            state,
            moment="backward of the first block",
            gradients=gradients + made,
            activations=run.one_block + run.working,
            logits=run.held_logits,
            buffers=bucket + gathered,
        ),
        replace(state, moment="optimizer step", gradients=gradients + (0.0 if train.cpu_offload else 4 * own)),
    )
