"""A model's repeated blocks: what is sharded, and recomputed, one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks: the longest ``ModuleList`` of the model, outermost first."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])


def checkpoint_activations(model: nn.Module) -> None:
    """Have each block keep its inputs alone, and run its forward pass again when backward gets to it.

    What is run again is ``forward`` and not the call of the module, so that hooks around it, such as those that gather
    parameters, do their work once.
    """
    for block in transformer_blocks(model):
        block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
