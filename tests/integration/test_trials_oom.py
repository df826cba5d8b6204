"""A micro-batch that does not fit is done again in smaller ones, on all ranks, and the numbers stay as they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_jobs import measure_each
from rank_processes import in_gang, new_gang
from trial_cases import config, save_model, write_chats

from sweeper.core.decode import encode
from sweeper.core.errors import OutOfMemory

LIMIT, FITS = 512, 300
"""The config's token limit, and the slots that the injected allocator has room for. Batches have about 1700 tokens."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("oom")
    one = config(save_model(folder / "model"), write_chats(folder / "train.jsonl", 60), epochs=2.4, batch_size=48)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(folder / "cache"))
        yield encode(one)


def short(rank: int, where: str, **more: int) -> dict[str, object]:
    return {"rank": rank, "slots": FITS, "where": where, **more}


def case(engine: str, memory: dict[str, object] | None = None, **more: object) -> dict[str, object]:
    return {"engine": engine, "max_tokens_per_rank": LIMIT, "memory": memory, **more}


def check(found: list[list[dict[str, Any]]], limits: list[int]) -> None:
    """The first trial is the undisturbed one; ``limits`` are the token limits that the others end with."""
    whole, *shrunk = [[(p["loss"], p["grad_norm"]) for one in measured for p in one["series"]] for measured in found]
    assert [measured[-1]["extra"]["max_tokens_per_rank"] for measured in found] == [LIMIT, *limits]
    for curve in shrunk:
        assert curve != whole, "no micro-batch was made smaller"
        for mine, theirs in zip(curve, whole, strict=True):
            assert mine == pytest.approx(theirs, rel=2e-6)


def test_one_rank_goes_on_with_half_the_tokens(plain: dict[str, Any]) -> None:
    cases = [case("single"), case("single", short(0, "forward")), case("single", short(0, "backward", after=3))]
    cases += [case("fsdp", short(0, "backward"))]
    check(measure_each(0, 1, "", plain, cases), [256, 256, 256])


def test_one_sample_that_does_not_fit_is_the_end(plain: dict[str, Any]) -> None:
    with pytest.raises(OutOfMemory, match=r"one sample of \d+ tokens per micro-batch"):
        measure_each(0, 1, "", plain, [case("single", {"rank": 0, "slots": 20, "where": "forward"})])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_rank_that_fails_alone_takes_all_with_it(plain: dict[str, Any]) -> None:
    """In the middle of a pass, with peers in a collective; in the second micro-batch of a step; in a later step."""
    failures = [short(1, "forward"), short(0, "backward"), short(1, "backward", after=1)]
    failures.append(short(1, "forward", after=2))
    cases = [case("fsdp", memory) for memory in (None, *failures)]
    cases.append(case("fsdp", short(1, "backward", after=1), wrap_blocks=False))
    check(in_gang(2, measure_each, plain, cases), [256] * 5)


@pytest.mark.long
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the extra: pip install deepspeed")
def test_a_rank_that_fails_alone_takes_all_with_it_under_deepspeed(plain: dict[str, Any]) -> None:
    new_gang()
    failures = [(2, None), (1, short(0, "backward")), (2, short(1, "backward", after=3)), (3, short(1, "forward"))]
    failures.append((3, short(0, "backward", after=3)))
    found = in_gang(2, measure_each, plain, [case("deepspeed", memory, zero_stage=stage) for stage, memory in failures])
    new_gang()
    check(found, [256] * 4)
