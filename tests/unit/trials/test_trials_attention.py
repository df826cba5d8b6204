"""Which attention a model gets on which machine, and what the backends compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trials.attention import AttentionFacts, Machine, choose
from trials.kernels import Ask, segments, torch_varlen

GPU = Machine(device="cuda", precision="bf16", has_flash_attn=True, has_torch_varlen=True)
TORCH = replace(GPU, has_flash_attn=False)
BARE = replace(TORCH, has_torch_varlen=False)
CPU = Machine(device="cpu", precision="bf16")
PLAIN = AttentionFacts()


@pytest.mark.parametrize(
    ("facts", "machine", "wanted"),
    [
        (PLAIN, GPU, ("flash_attn", "packed")),
        (PLAIN, TORCH, ("torch_varlen", "packed")),
        (PLAIN, BARE, ("segments", "packed")),
        (PLAIN, CPU, ("segments", "packed")),
        (PLAIN, replace(GPU, precision="fp32"), ("segments", "packed")),
        (replace(PLAIN, softcap=50.0), GPU, ("flash_attn", "packed")),
        (replace(PLAIN, softcap=50.0), TORCH, ("segments", "packed")),
        (replace(PLAIN, dropout=0.1), GPU, ("flash_attn", "packed")),
        (replace(PLAIN, dropout=0.1), TORCH, ("segments", "packed")),
        (replace(PLAIN, has_sinks=True), GPU, ("segments", "packed")),
        (replace(PLAIN, head_dims=(256,)), TORCH, ("torch_varlen", "packed")),
        (replace(PLAIN, head_dims=(512,)), GPU, ("segments", "packed")),
        (replace(PLAIN, head_dims=(20,)), GPU, ("segments", "packed")),
        (replace(PLAIN, head_dims=(128, 192)), GPU, ("segments", "packed")),
        (replace(PLAIN, is_stateful=True), GPU, ("own", "padded")),
        (replace(PLAIN, is_pluggable=False), CPU, ("own", "padded")),
        (replace(PLAIN, is_causal=False), CPU, ("own", "padded")),
    ],
)
def test_what_a_backend_cannot_compute_exactly_goes_elsewhere(
    facts: AttentionFacts, machine: Machine, wanted: tuple[str, str]
) -> None:
    choice = choose(facts, machine)
    assert (choice.backend, choice.layout) == wanted
    assert choice.reason


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("has_sinks", [False, True])
def test_segments_are_softmax_attention_within_each_sample(
    window: int | None, softcap: float | None, has_sinks: bool
) -> None:
    """Against the definition, one query at a time, in fp64."""
    torch.manual_seed(0)
    lengths, heads, groups, width = [5, 5, 4, 1], 4, 2, 8
    borders = torch.tensor([0, 5, 10, 14, 15], dtype=torch.int32)
    query = torch.randn(15, heads, width, dtype=torch.float64)
    key, value = (torch.randn(15, groups, width, dtype=torch.float64) for _ in range(2))
    sinks = torch.randn(heads, dtype=torch.float64) if has_sinks else None
    found = segments(query, key, value, Ask(borders, max(lengths), 0.3, window, 0.0, softcap, sinks))
    wanted = torch.empty_like(query)
    for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        for i in range(start, end):
            first = start if window is None else max(start, i - window + 1)
            for head in range(heads):
                scores = key[first : i + 1, head // (heads // groups)] @ query[i, head] * 0.3
                scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
                rest = sinks[head].exp() if sinks is not None else 0.0
                weights = scores.exp() / (scores.exp().sum() + rest)
                wanted[i, head] = weights @ value[first : i + 1, head // (heads // groups)]
    assert (found - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_torch_takes_what_its_kernel_is_called_with(groups: int) -> None:
    """Shapes and keywords alone: on this device nothing is computed."""
    query = torch.empty(10, 4, 16, device="meta")
    key, value = (torch.empty(10, groups, 16, device="meta") for _ in range(2))
    borders = torch.empty(3, dtype=torch.int32, device="meta")
    out = torch_varlen(query, key, value, Ask(borders, 6, 0.25, window=4))
    assert (out.shape, out.dtype) == (query.shape, torch.bfloat16)
    with pytest.raises(ValueError, match="neither dropout nor softcap"):
        torch_varlen(query, key, value, Ask(borders, 6, 0.25, softcap=2.0))
