"""Micro-batches as tensors.

Shapes: R rows, T slots of a row, N loss tokens of the micro-batch, S its samples and one more.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trials.data import TokenSet
from trials.packing import Rows

IGNORED = -100
"""Target of a slot that carries no loss; PyTorch's default ``ignore_index``."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass of one rank."""

    input_ids_rt: Tensor
    position_ids_rt: Tensor
    """Restart at each sample of a row. A row of one sample counts on through its padding, so that a micro-batch without
    packed rows is plain causal attention."""
    kept_n: Tensor
    """Flat slots whose logits are needed."""
    targets_n: Tensor
    """The token to predict at each of them."""
    sample_n: Tensor
    """The sample, as a position in the token set's selection, that each of them belongs to."""
    borders_s: Tensor
    """First slot of each sample, rows laid end to end, and their end; int32. Padding belongs to the sample before it,
    which does not see it."""
    longest: int
    """Most slots from one border to the next."""
    num_tokens: int
    """Real tokens of the samples, padding excluded."""
    num_loss_tokens: int

    def to(self, device: torch.device) -> MicroBatch:
        """Return a copy on ``device``."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            field.name: value.pin_memory().to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def micro_batch(data: TokenSet, chosen: NDArray[np.int64], rows: Rows) -> MicroBatch:
    """Return the tensors for ``rows`` of the samples ``chosen`` from ``data``."""
    if not len(rows.samples):
        return idle_batch()
    picked = chosen[rows.samples]
    starts = data.offsets[picked]
    used = data.offsets[picked + 1] - starts - 1
    ends = np.cumsum(used)
    # 0, 1, 2, ... within each sample, all samples one after another.
    within = np.arange(ends[-1]) - np.repeat(ends - used, used)
    source = np.repeat(starts, used) + within
    slots = np.repeat(rows.row * rows.width + rows.column, used) + within
    input_ids = np.zeros(rows.num_rows * rows.width, dtype=np.int64)
    input_ids[slots] = data.tokens[source]
    positions = np.tile(np.arange(rows.width), rows.num_rows)
    positions[slots] = within
    is_loss = data.loss_mask[source + 1]
    shape = (rows.num_rows, rows.width)
    borders = np.append(np.sort(rows.row * rows.width + rows.column), rows.num_rows * rows.width)
    return MicroBatch(
        torch.from_numpy(input_ids).view(shape),
        torch.from_numpy(positions).view(shape),
        torch.from_numpy(slots[is_loss]),
        torch.from_numpy(data.tokens[source + 1][is_loss].astype(np.int64)),
        torch.from_numpy(np.repeat(rows.samples, used)[is_loss]),
        torch.from_numpy(borders.astype(np.int32)),
        longest=int(np.diff(borders).max()),
        num_tokens=int((used + 1).sum()),
        num_loss_tokens=int(is_loss.sum()),
    )


def idle_batch() -> MicroBatch:
    """Return the smallest input whose loss and gradient are zero, for a rank without work."""
    one = torch.zeros((1, 1), dtype=torch.int64)
    nothing = torch.zeros(1, dtype=torch.int64)
    borders = torch.tensor([0, 1], dtype=torch.int32)
    return MicroBatch(
        one, one, nothing, torch.full((1,), IGNORED), nothing, borders, longest=1, num_tokens=0, num_loss_tokens=0
    )
