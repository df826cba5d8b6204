"""The variable-length kernels against the loop over samples. Run on a machine with a GPU: python -m pytest tests/gpu"""

from __future__ import annotations

import pytest
import torch

from trials.kernels import Ask, Kernel, flash_attn, has_flash_attn, has_torch_varlen, segments, torch_varlen

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
KERNELS = {"flash_attn": (flash_attn, has_flash_attn), "torch_varlen": (torch_varlen, lambda: has_torch_varlen(GPU))}
GPU = torch.device("cuda")


def run(kernel: Kernel, dtype: torch.dtype, groups: int, window: int | None) -> list[torch.Tensor]:
    torch.manual_seed(0)
    lengths = [300, 300, 170, 33, 1]
    borders = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=GPU)
    wide = [torch.randn(sum(lengths), heads, 64, device=GPU).bfloat16() for heads in (8, groups, groups)]
    inputs = [one.to(dtype).requires_grad_() for one in wide]
    out = kernel(*inputs, Ask(borders, max(lengths), 0.125, window))
    out.float().square().sum().backward()
    return [out.detach().float(), *(one.grad.float() for one in inputs)]


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("groups", [8, 2])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_agree_with_the_loop_over_samples(name: str, groups: int, window: int | None) -> None:
    kernel, is_there = KERNELS[name]
    if not is_there():
        pytest.skip(f"{name} is not installed: pip install flash-attn --no-build-isolation, or torch 2.11 and later")
    wanted = run(segments, torch.float32, groups, window)
    for found, right in zip(run(kernel, torch.bfloat16, groups, window), wanted, strict=True):
        assert (found - right).abs().max() <= 0.02 * right.abs().max()
