"""The effective batch is met exactly on any number of GPUs, or refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from recipe_cases import recipe

from sweeper.core.errors import InputError
from sweeper.export.targets import TARGETS

SHARED = sorted(set(TARGETS) - {"yaml", "torchrun", "training-hub"})
"""Targets that count an effective batch as micro-batches of samples; the others pack by tokens."""


@given(
    batch_size=st.integers(1, 500), gpus=st.integers(1, 16), tokens=st.integers(1, 20_000), longest=st.integers(1, 4096)
)
def test_the_split_is_the_batch_exactly_and_fits(batch_size: int, gpus: int, tokens: int, longest: int) -> None:
    found = recipe({"train.batch_size": batch_size, "train.max_tokens_per_rank": tokens}, gpus=gpus)
    object.__setattr__(found, "longest_tokens", longest)
    if batch_size % gpus:
        with pytest.raises(InputError, match="nearest that can"):
            _ = found.split
        return
    split = found.split
    assert split.micro_batch * split.accumulation * gpus == batch_size
    assert split.micro_batch == 1 or split.micro_batch * longest <= tokens
    larger = [size for size in range(split.micro_batch + 1, batch_size // gpus + 1) if batch_size // gpus % size == 0]
    assert all(size * longest > tokens for size in larger), "fewer forward passes would have fit"


def test_the_refusal_names_the_nearest_numbers_of_gpus() -> None:
    with pytest.raises(InputError, match=r"48 samples .* over 5 GPUs, got 5 \(nearest that can: 4 or 6;"):
        _ = recipe(gpus=5).split


@pytest.mark.parametrize("target", SHARED)
def test_a_target_refuses_gpus_that_do_not_divide_the_batch(target: str) -> None:
    with pytest.raises(InputError, match="--gpus: an effective batch of 48 samples"):
        TARGETS[target].translate(recipe(gpus=5))


@pytest.mark.parametrize("target", ["yaml", "torchrun"])
def test_our_own_ranks_share_any_batch(target: str) -> None:
    body = TARGETS[target].translate(recipe(gpus=5)).body
    assert "ranks: 5" in body if isinstance(body, str) else body["train"]["ranks"] == 5


def test_one_rank_stays_one_rank() -> None:
    with pytest.raises(InputError, match="engine 'single' has one rank"):
        TARGETS["yaml"].translate(recipe({"train.engine": "single", "train.ranks": 1}, gpus=2))


def test_an_axis_that_a_target_decides_by_itself_is_refused_with_a_way_out() -> None:
    for changes, rule in (
        ({"train.schedule": "constant"}, "always falls by a cosine"),
        ({"train.clip_norm": 0.3}, "always clips at 1"),
        ({"train.epochs": 1.5}, "trains whole epochs"),
        ({"data.train": ["/a.jsonl", "/b.jsonl"]}, "reads one file"),
    ):
        with pytest.raises(InputError, match=f"{rule}.*use --to trl"):
            TARGETS["training-hub"].translate(recipe(changes))
    with pytest.raises(InputError, match="DeepSpeed has no such schedule"):
        TARGETS["deepspeed"].translate(recipe({"train.schedule": "wsd"}))
    for target in ("axolotl", "llamafactory"):
        with pytest.raises(InputError, match="whole numbers only"):
            TARGETS[target].translate(recipe({"train.lora.alpha": 12.5}))


def test_a_pass_that_is_no_multiple_of_the_batch_is_named() -> None:
    for target in ("hf", "trl", "axolotl", "llamafactory"):
        even, uneven = (TARGETS[target].translate(recipe(samples=samples)).notes for samples in (960, 970))
        assert not any("last step of each pass" in note for note in even)
        assert any("the last step of each pass takes 10 samples" in note for note in uneven)


def test_torchtune_keeps_whole_batches_and_says_where_that_costs_steps() -> None:
    even = TARGETS["torchtune"].translate(recipe())
    assert not isinstance(even.body, str)
    assert (even.body["epochs"], even.body["max_steps_per_epoch"]) == (2, None)
    uneven = TARGETS["torchtune"].translate(recipe(samples=970))
    assert not isinstance(uneven.body, str)
    # 1,940 samples are 41 steps of 48; a pass of 970 holds 20 whole ones, and 3 passes of 13 are 39 of them.
    assert (uneven.body["epochs"], uneven.body["max_steps_per_epoch"]) == (3, 13)
    assert any("3 passes of 13 steps instead of 41" in note for note in uneven.notes)
