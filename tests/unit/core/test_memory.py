"""Memory by calculation: what must hold for any size, and sums that can be done by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sweeper.core.accelerators import GIB
from sweeper.core.config import LoraConfig, TrainConfig
from sweeper.core.memory import CUDA_CONTEXT_BYTES, MARGIN_SHARE, estimate
from sweeper.core.memory_terms import PARTS, Load, Memory
from sweeper.core.shape import ModelShape, shape_of

QWEN_7B = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
QWEN_7B |= {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False}
LLAMA_70B = {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
LLAMA_70B |= {"num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False}
LOAD = Load(tokens=8192, loss_tokens=4096, micro_batches=1)


def shape(plain: dict[str, Any]) -> ModelShape:
    found = shape_of(plain)
    assert found is not None
    return found


def train(**settings: Any) -> TrainConfig:
    base = {"batch_size": 128, "learning_rate": 1e-5, "engine": "fsdp", "ranks": 8, "precision": "bf16"}
    return TrainConfig(**(base | settings))


SEVEN = shape(QWEN_7B)


def test_a_whole_model_takes_sixteen_bytes_a_weight() -> None:
    assert SEVEN.parameters == 7_615_616_512
    found = estimate(SEVEN, train(engine="single", ranks=1), Load(tokens=1, loss_tokens=1, micro_batches=1))
    assert found.parameters + found.gradients + found.optimizer == pytest.approx(16 * SEVEN.parameters, rel=0.001)


@pytest.mark.parametrize("ranks", [2, 8, 64])
def test_fsdp_divides_weights_and_moments_by_the_ranks(ranks: int) -> None:
    found = estimate(SEVEN, train(ranks=ranks), LOAD)
    assert found.parameters == pytest.approx(4 * SEVEN.parameters / ranks)
    assert found.optimizer == pytest.approx(8 * SEVEN.parameters / ranks)


def test_groups_of_ranks_that_share_a_copy_hold_that_much_more() -> None:
    grouped = estimate(SEVEN, train(ranks=64, shard_ranks=8), LOAD)
    assert grouped.parameters == estimate(SEVEN, train(ranks=8), LOAD).parameters


def test_accumulation_keeps_whole_gradients_in_fp32_on_every_rank() -> None:
    alone, several = (estimate(SEVEN, train(), replace(LOAD, micro_batches=count)) for count in (1, 2))
    assert several.gradients >= 4 * SEVEN.parameters
    assert several.device > alone.device + 2 * SEVEN.parameters


def test_computing_activations_again_takes_less_memory() -> None:
    plain, checkpointed = (
        estimate(SEVEN, train(activation_checkpointing=flag), LOAD).activations for flag in (False, True)
    )
    assert checkpointed < 0.2 * plain


def test_offloading_moves_state_to_the_host() -> None:
    here, there = (estimate(SEVEN, train(cpu_offload=flag), LOAD) for flag in (False, True))
    assert there.parameters == there.optimizer == 0
    assert here.device - there.device >= 12 * SEVEN.parameters / 8 * 0.9
    assert there.host >= 16 * SEVEN.parameters / 8
    assert here.host == 0


@pytest.mark.parametrize("engine", ["single", "fsdp", "deepspeed"])
@pytest.mark.parametrize("lora", [None, LoraConfig()])
def test_a_node_holds_the_base_weights_once_and_its_ranks_hold_none(engine: Any, lora: Any) -> None:
    found = estimate(SEVEN, train(engine=engine, ranks=1 if engine == "single" else 8, lora=lora), LOAD)
    assert found.base == 4 * SEVEN.parameters
    assert found.host == 0


def test_adapters_need_moments_and_gradients_for_themselves_alone() -> None:
    lora = LoraConfig(rank=16)
    found = estimate(SEVEN, train(lora=lora), LOAD)
    trained = SEVEN.adapters(lora).trained
    assert trained == 40_370_176
    assert found.optimizer == pytest.approx(8 * trained / 8)
    # Adapted matrices in bf16, embedding and output layer in fp32.
    assert found.parameters == pytest.approx((2 * 6.525e9 + 4 * 1.09e9) / 8, rel=0.02)


@pytest.mark.parametrize(("stage", "least"), [(1, 2 + 4 / 8), (2, 2 + 4 / 8), (3, 6 / 8)])
def test_zero_partitions_what_its_stage_says(stage: Any, least: float) -> None:
    found = estimate(SEVEN, train(engine="deepspeed", zero_stage=stage), replace(LOAD, tokens=65_536))
    assert found.parameters == pytest.approx(least * SEVEN.parameters)
    assert found.optimizer == pytest.approx(SEVEN.parameters)


def test_seventy_billion_weights_fit_64_gpus_and_not_8() -> None:
    seventy = shape(LLAMA_70B)
    assert seventy.parameters == 70_553_706_496
    fits = estimate(seventy, train(ranks=64, activation_checkpointing=True), LOAD)
    assert fits.device < 79 * GIB
    assert estimate(seventy, train(ranks=8, activation_checkpointing=True), LOAD).device > 79 * GIB
    assert estimate(seventy, train(ranks=64, activation_checkpointing=True, cpu_offload=True), LOAD).device < 40 * GIB


@pytest.mark.parametrize("engine", ["single", "fsdp", "deepspeed"])
def test_more_tokens_never_take_less(engine: Any) -> None:
    ranks = 1 if engine == "single" else 8
    sizes = [
        estimate(SEVEN, train(engine=engine, ranks=ranks), replace(LOAD, tokens=tokens, loss_tokens=tokens // 2)).device
        for tokens in (1, 512, 4096, 32_768)
    ]
    assert sizes == sorted(sizes)


def test_a_gpu_is_left_a_margin_and_a_cpu_is_not() -> None:
    gpu, cpu = (estimate(SEVEN, train(), LOAD, device) for device in ("cuda", "cpu"))
    assert cpu.margin == 0
    assert gpu.margin == pytest.approx(MARGIN_SHARE * (gpu.device - gpu.margin) + CUDA_CONTEXT_BYTES)


def test_the_device_holds_the_sum_of_its_parts() -> None:
    found = Memory(
        parameters=1, gradients=2, optimizer=4, activations=8, logits=16, buffers=32, margin=64, host=128, base=256
    )
    assert found.device == 127
    assert not {"host", "base"} & set(PARTS)
