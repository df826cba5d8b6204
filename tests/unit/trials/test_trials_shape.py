"""Sizes read from a config alone, against the models that transformers builds from it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sweeper.core.config import LoraConfig, TrainConfig
from sweeper.core.memory_engines import SMALL_BLOCK_PARAMETERS
from sweeper.core.micro_batch import Lengths
from sweeper.core.roofline import flops_per_sample
from sweeper.core.shape import EXACT_FAMILIES, ModelShape, shape_of
from trials.engines import fsdp
from trials.flops import train_flops, work_of
from trials.lora import add_adapters

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("mistral", {"sliding_window": 16}),
    ("mixtral", {"num_local_experts": 4}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 32}),
    ("qwen3_moe", {"head_dim": 16, "num_experts": 4, "moe_intermediate_size": 32, "num_experts_per_tok": 2}),
    ("granite", {}),
    ("phi3", {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}),
    ("smollm3", {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}),
    ("gemma", {"head_dim": 16}),
    ("gemma2", {"head_dim": 16}),
]


def built(family: str, settings: dict[str, Any]) -> tuple[Any, ModelShape]:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[family](**(SIZES | settings))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = shape_of(json.loads(config.to_json_string(use_diff=False)))
    assert found is not None
    return model, found


@pytest.mark.parametrize(("family", "settings"), CASES, ids=[f"{family}-{len(more)}" for family, more in CASES])
def test_parameters_are_counted_exactly(family: str, settings: dict[str, Any]) -> None:
    model, found = built(family, settings)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.is_exact


def test_every_family_that_is_said_to_be_exact_is_tested() -> None:
    assert {family for family, _ in CASES} == EXACT_FAMILIES


def test_weights_in_the_files_overrule_the_count() -> None:
    _, found = built("llama", {})
    assert found.with_parameters(200_000).parameters == 200_000
    assert found.with_parameters(None) == found


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "v_proj")])
def test_adapters_are_counted_exactly(targets: tuple[str, ...]) -> None:
    pytest.importorskip("peft", reason="needs the extra lora")
    lora = LoraConfig(rank=4, target_modules=targets)
    model, found = built("qwen2", {})
    add_adapters(model, lora)
    counted = found.adapters(lora)
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    assert counted.trained == sum(trained)
    assert counted.adapted == sum(
        p.numel() for name, p in model.named_parameters() if name.endswith("base_layer.weight")
    )


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3_moe"])
def test_flops_are_those_that_trials_report(family: str) -> None:
    model, found = built(family, dict(CASES[[name for name, _ in CASES].index(family)][1]))
    lengths = np.array([5, 40, 100])
    known = Lengths(3, 145, 60, np.array([[5.0, 2.0], [40.0, 20.0], [100.0, 38.0]]))
    train = TrainConfig(batch_size=1, learning_rate=1e-3)
    reported = train_flops(work_of(model), lengths)
    assert 3 * flops_per_sample(found, known, train) == pytest.approx(reported, rel=1e-6)


def test_a_config_without_the_sizes_of_a_decoder_has_no_shape() -> None:
    assert shape_of({"model_type": "clip"}) is None


def test_engine_and_plan_agree_on_what_a_small_block_is() -> None:
    assert fsdp.SMALL_BLOCK_PARAMETERS == SMALL_BLOCK_PARAMETERS
