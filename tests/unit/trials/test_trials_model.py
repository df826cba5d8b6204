"""Packed rows give each sample the logits it gets alone, whatever the architecture does with attention and logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sweeper.core.errors import InputError
from trials.batch import MicroBatch, micro_batch
from trials.data import TokenSet
from trials.model import Head
from trials.packing import Layout, plan

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 5},
    "gemma2": {"head_dim": 8, "sliding_window": 5, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
}
LENGTHS = (17, 3, 9, 2, 12, 5)


def build(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **ARCHITECTURES[kind])
    config.use_cache = False
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def data() -> TokenSet:
    draw = np.random.default_rng(0)
    masks = [draw.random(length) < 0.6 for length in LENGTHS]
    for mask in masks:
        mask[0], mask[-1] = False, True
    return TokenSet(
        draw.integers(3, 64, sum(LENGTHS)).astype(np.int32),
        np.concatenate(masks),
        np.cumsum([0, *LENGTHS]),
        np.array([mask.sum() for mask in masks], dtype=np.int32),
    )


def one_batch(data: TokenSet, layout: Layout) -> MicroBatch:
    ((rows,),) = plan(data.lengths - 1, max_tokens=1000, ranks=1, layout=layout)
    assert (rows.num_rows < len(data)) == (layout == "packed")
    return micro_batch(data, np.arange(len(data)), rows)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_are_those_of_each_sample_alone(kind: str, layout: Layout, data: TokenSet) -> None:
    model = build(kind)
    head = Head(model)
    batch = one_batch(data, layout)
    with torch.no_grad():
        found = head.logits(model, batch)
        for i, (start, end) in enumerate(zip(data.offsets, data.offsets[1:], strict=False)):
            tokens = torch.from_numpy(data.tokens[start:end].astype(np.int64))
            alone = model(input_ids=tokens[None]).logits[0, :-1]
            wanted = alone[torch.from_numpy(data.loss_mask[start + 1 : end])]
            mine = batch.sample_n == i
            assert (found[mine] - wanted).abs().max() <= 1e-5
            assert batch.targets_n[mine].tolist() == tokens[data.loss_mask[start:end]].tolist()


def test_a_dummy_batch_has_no_loss_and_no_gradient() -> None:
    model = build("llama")
    nothing = plan(np.array([4]), max_tokens=10, ranks=2)[0][1]
    batch = micro_batch(TokenSet(*(np.zeros(0, dtype=np.int64),) * 4), np.zeros(0, dtype=np.int64), nothing)
    loss = torch.nn.functional.cross_entropy(Head(model).logits(model, batch), batch.targets_n, reduction="sum")
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_a_model_that_bypasses_its_output_layer_is_refused(data: TokenSet) -> None:
    """Otherwise its logits would be taken for those of the kept slots."""
    model = build("llama")
    head = Head(model)
    model.lm_head.forward, original = lambda hidden: torch.zeros(1, 3, 64), model.lm_head.forward
    with pytest.raises(InputError, match="past its output layer"):
        head.logits(model, one_batch(data, "packed"))
    model.lm_head.forward = original
