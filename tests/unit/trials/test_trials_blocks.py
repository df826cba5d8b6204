"""Blocks that are computed again for backward."""

from __future__ import annotations

import torch
from torch import nn

from trials.engines.blocks import checkpoint_activations, transformer_blocks


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.runs = 0

    def forward(self, hidden: torch.Tensor, *, scale: float) -> torch.Tensor:
        self.runs += 1
        return self.inner(hidden).tanh() * scale


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([Block(), Block()])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.layers:
            hidden = block(hidden, scale=2.0)
        return hidden


def gradient(model: Model) -> torch.Tensor:
    model(torch.ones(2, 3)).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def test_a_block_is_computed_again_for_backward_and_its_gradient_stays() -> None:
    plain, saving = Model(), Model()
    checkpoint_activations(saving)
    assert torch.equal(gradient(saving), gradient(plain))
    assert [block.runs for block in transformer_blocks(saving)] == [2, 2]
    assert [block.runs for block in transformer_blocks(plain)] == [1, 1]


def test_without_a_gradient_a_block_is_computed_once() -> None:
    model = Model()
    checkpoint_activations(model)
    with torch.no_grad():
        model(torch.ones(2, 3))
    assert [block.runs for block in transformer_blocks(model)] == [1, 1]
