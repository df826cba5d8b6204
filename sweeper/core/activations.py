"""What one micro-batch keeps for its backward pass, counted tensor by tensor.

Korthikanti et al. 2022 (arXiv 2205.05198, section 4) count a GPT block in fp16 the same way; here it is a block with
RMS norms, rotary positions, grouped keys and values and a gated MLP, as transformers runs it, in the three precisions
that the engines compute in. Attention is a fused kernel that keeps queries, keys, values, its output and one number per
head and token (Dao et al. 2022, arXiv 2205.14135), never the square of scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sweeper.core.shape import AdapterShape, ModelShape

Compute = Literal["fp32", "autocast", "bf16"]
"""``autocast``: fp32 weights cast at each use (engine single). ``bf16``: weights held in bf16 for the pass (fsdp,
deepspeed)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Bytes per token."""

    block: float
    """All that one block keeps, its own input included."""
    block_input: float
    """What a block keeps that is computed again in backward."""
    working: float
    """Gradients of activations that are alive at once while a block's backward runs."""
    tail: float
    """After the last block: its output, the last norm, and what was embedded."""


def kept(shape: ModelShape, compute: Compute, adapters: AdapterShape | None, *, copies_attention: bool) -> Kept:
    """Return what a token costs.

    Args:
        copies_attention: whether attention's output is copied once more, as it is where there is no variable-length
            kernel and samples are attended to one after another.
    """
    h, q, kv = shape.hidden, shape.query_width, shape.kv_width
    # A token passes ``experts_per_token`` MLPs.
    inner = shape.intermediate * shape.experts_per_token
    half = 4 if compute == "fp32" else 2
    stream = 2 if compute == "bf16" else 4
    # Queries and keys after rotation, values, attention's output (once for the kernel, once as the copy).
    attention = half * (q + 2 * kv + q * (2 if copies_attention else 1)) + 4 * shape.heads
    norms_per_block = max(2, round(shape.norms / h)) if shape.norms else 2
    norm = _norm(h, compute, is_trained=adapters is None)
    # gate, silu(gate), up and their product.
    block = attention + half * 4 * inner + norms_per_block * norm
    if shape.norms % h:
        # Queries and keys are normalised head by head too; no matrix keeps what comes out.
        block += (norm - half * h * (compute != "autocast")) / h * (q + kv)
    if compute == "autocast":
        # Each matrix casts its own input: three of attention's, two of the MLP's.
        block += 5 * half * h
    if shape.experts > 1:
        block += half * 2 * h * shape.experts_per_token
    if adapters is not None:
        block += _adapters(adapters, half)
    return Kept(
        block=block,
        block_input=stream * h,
        # The product's gradient and those of silu and up; the residual's; of attention less at another time.
        working=half * 2 * inner + 2 * stream * h,
        tail=norm + stream * h,
    )


def _norm(hidden: int, compute: Compute, *, is_trained: bool) -> float:
    """Return what an RMS norm keeps: its input in fp32, the normed input, and its output where a matrix keeps that.

    The normed input is kept for the norm's own weights alone.
    """
    normed = (2 if compute == "bf16" else 4) if is_trained else 0
    return (4 + normed + {"fp32": 4, "autocast": 0, "bf16": 2}[compute]) * hidden


def _adapters(adapters: AdapterShape, half: int) -> float:
    """Return what one block's adapters keep beside the inputs, which they keep in their matrices' place.

    With dropout each has an input of its own, and its mask. The up-projection keeps its input too.
    """
    dropped = adapters.inputs * (half + 1) if adapters.dropout else 0
    return dropped + half * adapters.rank * adapters.layers


def logits_bytes(vocab: int, compute: Compute) -> float:
    """Return the bytes per loss token that are alive at once when the cross-entropy's backward pass begins.

    Logits, the logarithm of their softmax, its gradient and theirs: four times fp32; where logits are bf16 they are 2
    bytes and the three others fp32.
    """
    return vocab * (4 * 4 if compute == "fp32" else 2 + 3 * 4)


def held_logits_bytes(vocab: int, compute: Compute) -> float:
    """Return the bytes per loss token of the logits themselves, which live as long as the backward pass."""
    return vocab * (4 if compute == "fp32" else 2)
