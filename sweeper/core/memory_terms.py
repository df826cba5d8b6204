"""What the memory of a step is made of: the parts, and the sizes and activations that they follow from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal

from sweeper.core.activations import Compute, held_logits_bytes, kept, logits_bytes
from sweeper.core.config import TrainConfig
from sweeper.core.shape import AdapterShape, ModelShape

Device = Literal["cuda", "cpu"]


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
    """On the CPU's side: what is offloaded."""
    base: float = 0.0
    """On the CPU's side of each node, for all its ranks together: the base weights that every trial begins with."""
    moment: str = ""
    """When in a step this is."""

    @property
    def device(self) -> float:
        """All that lies on the device."""
        return float(sum(getattr(self, part) for part in PARTS))

    def scaled(self, factor: float) -> Memory:
        """Return it with all parts that an allocator counts times ``factor``; what lies elsewhere stays as it is."""
        parts = {part: factor * getattr(self, part) for part in PARTS if part != "margin"}
        return self if factor == 1 else replace(self, **parts)


PARTS: Final = tuple(one.name for one in fields(Memory) if one.name not in ("host", "base", "moment"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
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


def sizes_of(shape: ModelShape, train: TrainConfig) -> Sizes:
    if train.lora is None:
        largest = max(shape.embedding_parameters, shape.hidden * shape.intermediate)
        return Sizes(
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
    return Sizes(
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
class Pass:
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


def passes(shape: ModelShape, train: TrainConfig, load: Load, sizes: Sizes, compute: Compute, device: Device) -> Pass:
    each = kept(shape, compute, sizes.adapters, copies_attention=device == "cpu" or train.precision == "fp32")
    half = 4 if compute == "fp32" else 2
    rotary = 2 * shape.head_dim * (2 if compute == "bf16" else 4)
    recomputed = each.block if train.activation_checkpointing else 0.0
    blocks = shape.layers * (each.block_input if train.activation_checkpointing else each.block)
    return Pass(
        all_kept=load.tokens * (blocks + rotary + each.tail) + load.loss_tokens * shape.hidden * half,
        kept=load.tokens * (blocks + recomputed + rotary),
        one_block=load.tokens * each.block,
        working=load.tokens * each.working,
        loss=load.loss_tokens * logits_bytes(shape.vocab, compute),
        held_logits=load.loss_tokens * held_logits_bytes(shape.vocab, compute),
    )
