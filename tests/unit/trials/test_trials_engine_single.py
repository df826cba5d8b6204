"""The engine of one rank: what it keeps, and what it must not keep."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from sweeper.core.config import LoraConfig, TrainConfig
from trials.batch import MicroBatch, micro_batch
from trials.data import TokenSet
from trials.engines.single import SingleEngine
from trials.gang import Gang
from trials.lora import add_adapters
from trials.packing import plan

TRAIN = TrainConfig(batch_size=2, learning_rate=1e-3, engine="single")


def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    torch.manual_seed(0)
    made = LlamaForCausalLM(LlamaConfig(vocab_size=32, num_attention_heads=2, num_key_value_heads=1, **sizes))
    made.config.use_cache = False
    return made


def batch() -> MicroBatch:
    offsets = np.array([0, 5, 9])
    mask = np.ones(9, dtype=bool)
    mask[offsets[:-1]] = False
    data = TokenSet(np.arange(9, dtype=np.int32), mask, offsets, np.array([4, 3], dtype=np.int32))
    return micro_batch(data, np.arange(2), plan(np.array([4, 3]), max_tokens=16, ranks=1)[0][0])


def gang() -> Gang:
    return Gang(rank=0, world_size=1, device=torch.device("cpu"))


def test_the_memory_of_gradients_is_given_back_with_their_step() -> None:
    engine = SingleEngine(model(), gang(), "fp32")
    engine.reset(TRAIN)
    given_back: list[str] = []
    loss = engine.backward(batch(), loss_tokens=7, is_last=True)
    gradients = [(name, p.grad) for name, p in engine._model.named_parameters()]
    for name, gradient in gradients:
        assert gradient is not None
        weakref.finalize(gradient.untyped_storage(), given_back.append, name)
    names = [name for name, _ in gradients]
    gradient = gradients = None
    engine.step(loss, learning_rate=1e-3, clip_norm=1.0)
    assert sorted(given_back) == sorted(names)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_adapters_beside_bf16_weights_train(checkpointed: bool) -> None:
    pytest.importorskip("peft", reason="needs the extra lora")
    adapted = model()
    lora = LoraConfig(rank=2)
    add_adapters(adapted, lora)
    engine = SingleEngine(adapted, gang(), "bf16", checkpoints_activations=checkpointed)
    engine.reset(TrainConfig(batch_size=2, learning_rate=1e-3, engine="single", precision="bf16", lora=lora))
    losses = []
    for _ in range(3):
        loss = engine.backward(batch(), loss_tokens=7, is_last=True)
        engine.step(loss, learning_rate=1e-2, clip_norm=1.0)
        losses.append(float(loss))
    assert losses[2] < losses[0]
