"""What an engine trains, made from base weights that it must leave as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from sweeper.core.config import Precision
from trials.lora import held_dtype


def make_live(module: nn.Module, precision: Precision, device: torch.device, *, copies: bool) -> None:
    """Bring a module's parameters to the device, in fp32 or, frozen under adapters, in the precision they are used in.

    What is sharded already stays as it is.

    Args:
        copies: give trained parameters memory of their own even where nothing else is to be done, because those of the
            module are shared.
    """
    for name, parameter in module.named_parameters():
        if not isinstance(parameter, DTensor):
            parameter.data = lively(name, parameter, precision, device, copies=copies and parameter.requires_grad)


def lively(name: str, parameter: Tensor, precision: Precision, device: torch.device, *, copies: bool) -> Tensor:
    """Return a parameter's values as ``make_live`` puts them into a module."""
    held = parameter.detach()
    # Over the bus in the type it is stored in, which may be half as wide.
    moved = held.to(device)
    if not moved.is_floating_point():
        return moved.clone() if copies and moved is held else moved
    return moved.to(held_dtype(name, precision), copy=copies and moved is held)


def own_part(parameter: Tensor, whole: Tensor) -> Tensor:
    """Return this rank's part of a tensor, a view, cut as ``parameter`` is spread over the ranks; nobody talks."""
    if not isinstance(parameter, DTensor):
        return whole
    for axis, placement in enumerate(parameter.placements):
        if isinstance(placement, Shard):
            parts = whole.chunk(parameter.device_mesh.size(axis), placement.dim)
            rank = parameter.device_mesh.get_local_rank(axis)
            # There may be fewer rows than ranks.
            whole = parts[rank] if rank < len(parts) else whole.narrow(placement.dim, 0, 0)
    return whole
