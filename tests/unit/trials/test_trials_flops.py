"""FLOPs by formula against FLOPs counted by PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from trials.flops import Work, peak_flops, train_flops, work_of

TINY: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize("tied", [False, True])
def test_a_step_has_the_flops_that_pytorch_counts(tied: bool) -> None:
    length = 24
    model = LlamaForCausalLM(LlamaConfig(**TINY, tie_word_embeddings=tied, attn_implementation="eager"))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros((1, length), dtype=torch.int64)).logits.sum().backward()
    work = work_of(model)
    assert work is not None
    # PyTorch counts the whole square of attention, and no gradient of the embedding, whose input has none.
    unseen = 12 * work.attention_width * 2 * (length**2 - length * (length + 1) / 2)
    assert train_flops(work, np.array([length])) + unseen == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_what_is_not_trained_costs_no_gradient_of_weights() -> None:
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    whole = work_of(model)
    model.requires_grad_(False)
    frozen = work_of(model)
    assert whole is not None
    assert frozen is not None
    lengths = np.array([10, 20])
    assert train_flops(whole, lengths) - train_flops(frozen, lengths) == 2 * whole.matmul_parameters * 30


def test_a_window_bounds_what_attention_costs() -> None:
    def flops(window: int | None, length: int) -> float:
        work = Work(matmul_parameters=0, trained_matmul_parameters=0, attention_width=1, windows=(window,))
        return train_flops(work, np.array([length])) / 12

    assert flops(None, 10) == 55
    assert flops(4, 10) == 1 + 2 + 3 + 4 + 6 * 4
    assert flops(40, 10) == 55


def test_gpt2_and_experts_are_counted() -> None:
    gpt2 = work_of(GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, n_positions=16)))
    assert gpt2 is not None
    assert gpt2.matmul_parameters == 2 * 12 * 32 * 32 + 64 * 32
    assert gpt2.windows == (None, None)
    settings = TINY | {"num_local_experts": 4, "num_experts_per_tok": 1}
    experts = work_of(MixtralForCausalLM(MixtralConfig(**settings)))
    assert experts is not None
    attention = 32 * 32 * 2 + 32 * 16 * 2
    assert experts.matmul_parameters == 2 * (attention + 3 * 32 * 48 + 4 * 32) + 64 * 32


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA A10", 125.0),
    ],
)
def test_the_peak_of_a_gpu_is_known_by_its_name(name: str, teraflops: float) -> None:
    assert peak_flops(name, "bf16") == teraflops * 1e12
    assert peak_flops(name, "fp32") is None


def test_the_peak_of_another_device_is_not_guessed() -> None:
    for name in ("cpu", "Tesla T4", "NVIDIA RTX A1000", "NVIDIA A10G"):
        assert peak_flops(name, "bf16") is None
