"""Batched decoding writes what transformers' own ``generate`` writes for each prompt alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from test_trials_model import build

from trials.engines.single import SingleEngine
from trials.gang import Gang
from trials.generate import greedy, waves

GANG = Gang(rank=0, world_size=1, device=torch.device("cpu"))
ENDS = frozenset((2, 7))
NEW_TOKENS = 12


@pytest.fixture
def prompts() -> list[Any]:
    draw = np.random.default_rng(3)
    return [draw.integers(3, 64, length).astype(np.int32) for length in (5, 1, 19, 8, 8, 13, 2, 30)]


def lively(kind: str) -> Any:
    """Return a model whose tokens hang on the whole prompt: freshly made or with tied weights it repeats one token."""
    model = build(kind)
    torch.manual_seed(1)
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model


def alone(model: Any, prompt: Any) -> list[int]:
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": None}
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **settings)
    written: list[int] = output[0, ids.shape[1] :].tolist()
    return written


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "granite"])
def test_every_row_is_decoded_as_if_it_were_alone(kind: str, prompts: list[Any]) -> None:
    model = lively(kind)
    whole = [alone(model, prompt) for prompt in prompts]
    ends = frozenset((whole[2][4], whole[5][7]))
    wanted = [list(itertools.takewhile(lambda token: token not in ends, answer)) for answer in whole]
    assert len({tuple(answer) for answer in wanted}) > 4
    assert len({len(answer) for answer in wanted}) > 2, "some answers must end early"
    engine = SingleEngine(model, GANG, "fp32")
    for max_tokens in (40, 1000):
        found = greedy(engine, prompts, max_new_tokens=NEW_TOKENS, ends=ends, max_tokens=max_tokens, gang=GANG)
        assert [found[number] for number in range(len(prompts))] == wanted


def test_a_stop_ends_one_row_alone(prompts: list[Any]) -> None:
    engine = SingleEngine(lively("llama"), GANG, "fp32")
    settings: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "ends": frozenset(), "max_tokens": 1000, "gang": GANG}
    whole = greedy(engine, prompts, **settings)
    cut = greedy(engine, prompts, **settings, stop=lambda number, answer: number == 3 and len(answer) == 2)
    assert {number: answer[:2] if number == 3 else answer for number, answer in whole.items()} == cut


def test_not_a_number_ends_an_answer(prompts: list[Any]) -> None:
    model = lively("llama")
    engine = SingleEngine(model, GANG, "fp32")
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    found = greedy(engine, prompts, max_new_tokens=3, ends=ENDS, max_tokens=100, gang=GANG)
    assert list(found.values()) == [[]] * len(prompts)


def test_decoding_leaves_the_model_as_it_was(prompts: list[Any]) -> None:
    model = lively("llama")
    engine = SingleEngine(model, GANG, "fp32")
    attention = model.config._attn_implementation
    model.train()
    greedy(engine, prompts, max_new_tokens=4, ends=ENDS, max_tokens=99, gang=GANG)
    assert model.config._attn_implementation == attention
    assert model.training
    assert not model.config.use_cache


def test_every_prompt_is_in_one_wave_within_the_limits() -> None:
    lengths = [3, 50, 7, 7, 20, 1, 9, 33]
    planned = waves(lengths, max_new_tokens=30, max_tokens=60, ranks=2)
    assert sorted(number for wave in planned for share in wave for number in share) == list(range(len(lengths)))
    for wave in planned:
        assert len(wave) == 2
        for share in wave:
            longest = max((lengths[number] for number in share), default=0)
            assert len(share) <= 1 or len(share) * longest <= 60
            assert len(share) <= 1 or len(share) * (longest + 30) <= 240
