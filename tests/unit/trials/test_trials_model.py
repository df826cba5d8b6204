"""Packed rows give each sample the logits it gets alone, whatever the architecture does with attention and logits."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from sweeper.core.errors import InputError
from trials.attention import set_attention
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
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "attention_multiplier": 0.1},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gpt_oss": {"head_dim": 8, "sliding_window": 5, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""Told where samples begin, and packed."""
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 4, "mamba_chunk_size": 8}
PADDED: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 48, **SSM},
    "falcon_h1": {"head_dim": 8, "mamba_d_ssm": 64, **SSM},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "bloom": {"n_head": 4, "n_layer": 2},
    "nemotron": {},
}
"""Recurrent, convolving, with attention of its own, or deaf to where samples begin."""
LENGTHS = (17, 3, 9, 2, 12, 5, 9)
CPU = torch.device("cpu")


def build(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **(ARCHITECTURES | PADDED)[kind])
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
    assert rows.num_rows == (1 if layout == "packed" else len(data))
    return micro_batch(data, np.arange(len(data)), rows)


def check_logits(model: Any, batch: MicroBatch, data: TokenSet, untouched: Any) -> None:
    head = Head(model)
    with torch.no_grad():
        found = head.logits(model, batch)
        for i, (start, end) in enumerate(zip(data.offsets, data.offsets[1:], strict=False)):
            tokens = torch.from_numpy(data.tokens[start:end].astype(np.int64))
            alone = untouched(input_ids=tokens[None], use_cache=False).logits[0, :-1]
            wanted = alone[torch.from_numpy(data.loss_mask[start + 1 : end])]
            mine = batch.sample_n == i
            assert (found[mine] - wanted).abs().max() <= 1e-5
            assert batch.targets_n[mine].tolist() == tokens[data.loss_mask[start:end]].tolist()


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_are_those_of_each_sample_alone(kind: str, layout: Layout, data: TokenSet) -> None:
    model = build(kind)
    alone = copy.deepcopy(model)
    assert set_attention(model, CPU, "fp32").layout == "packed"
    check_logits(model, one_batch(data, layout), data, alone)


@pytest.mark.parametrize("kind", PADDED)
def test_a_model_that_cannot_pack_is_padded_to_the_same_logits(kind: str, data: TokenSet) -> None:
    model = build(kind)
    assert set_attention(model, CPU, "fp32").layout == "padded"
    check_logits(model, one_batch(data, "padded"), data, copy.deepcopy(model))


def test_packed_rows_without_their_borders_are_refused(data: TokenSet) -> None:
    """Otherwise a class that drops them would train on samples that see each other."""
    model = build("llama")
    set_attention(model, CPU, "fp32")
    batch = one_batch(data, "packed")
    with pytest.raises(RuntimeError, match="without their borders"):
        model(input_ids=batch.input_ids_rt, position_ids=batch.position_ids_rt, use_cache=False)


def test_activation_checkpointing_changes_no_gradient(data: TokenSet) -> None:
    gradients = []
    for is_checkpointed in (False, True):
        model = build("mistral").train()
        set_attention(model, CPU, "fp32")
        if is_checkpointed:
            model.model.layers = torch.nn.ModuleList(map(checkpoint_wrapper, model.model.layers))
        batch = one_batch(data, "packed")
        torch.nn.functional.cross_entropy(Head(model).logits(model, batch), batch.targets_n).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_a_dummy_batch_has_no_loss_and_no_gradient() -> None:
    model = build("llama")
    set_attention(model, CPU, "fp32")
    nothing = plan(np.array([4]), max_tokens=10, ranks=2)[0][1]
    batch = micro_batch(TokenSet(*(np.zeros(0, dtype=np.int64),) * 4), np.zeros(0, dtype=np.int64), nothing)
    loss = torch.nn.functional.cross_entropy(Head(model).logits(model, batch), batch.targets_n, reduction="sum")
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_a_model_that_bypasses_its_output_layer_is_refused(data: TokenSet) -> None:
    """Otherwise its logits would be taken for those of the kept slots."""
    model = build("llama")
    set_attention(model, CPU, "fp32")
    head = Head(model)
    model.lm_head.forward, original = lambda hidden: torch.zeros(1, 3, 64), model.lm_head.forward
    with pytest.raises(InputError, match="past its output layer"):
        head.logits(model, one_batch(data, "packed"))
    model.lm_head.forward = original
