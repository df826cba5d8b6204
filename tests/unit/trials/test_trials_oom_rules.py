"""What is decided when a micro-batch does not fit, without an engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sweeper.core.errors import OutOfMemory
from trials.gang import Gang
from trials.oom import MemoryGuard, MemoryShortage, is_out_of_memory, no_way_out, size_of, smaller_limit
from trials.packing import plan

LENGTHS = np.array([60, 50, 40, 30, 20, 10])


@pytest.mark.parametrize(("limit", "expected"), [(8192, 128), (256, 128), (200, 100), (150, 75)])
def test_the_limit_is_halved_until_the_micro_batch_is_above_it(limit: int, expected: int) -> None:
    first = plan(np.full(4, 50), max_tokens=limit, ranks=1)[0]
    assert smaller_limit(limit, first) == expected


def test_halving_ends_at_one_sample_per_micro_batch_and_never_drops_one() -> None:
    limit, largest = 4096, plan(LENGTHS, max_tokens=4096, ranks=1)[0]
    while len(largest[0].samples) > 1:
        limit = smaller_limit(limit, largest)
        planned = plan(LENGTHS, max_tokens=limit, ranks=1)
        assert sorted(i for (rows,) in planned for i in rows.samples) == list(range(6))
        largest = planned[0]
    with pytest.raises(OutOfMemory, match="one sample of 60 tokens per micro-batch"):
        smaller_limit(limit, largest)
    assert [rows.samples.tolist() for (rows,) in plan(LENGTHS, max_tokens=1, ranks=1)] == [[i] for i in range(6)]


def test_a_micro_batch_is_as_large_as_that_of_its_fullest_rank() -> None:
    (ranks,) = plan(LENGTHS[:3], max_tokens=100, ranks=3, layout="padded")
    assert size_of(ranks, np.array([1, 7, 2]), index=0, step=0) == (60, 3600, 7, 0, 0)
    assert size_of(ranks, np.array([1, 7, 2]), index=2, step=5) == (60, 3600, 7, 1, 1)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("DefaultCPUAllocator"), False),
    ],
)
def test_only_an_allocator_runs_out_of_memory(error: Exception, is_it: bool) -> None:
    assert is_out_of_memory(error) is is_it
    with pytest.raises(OutOfMemory if is_it else type(error)), no_way_out("the optimizer step"):
        raise error


def test_other_errors_of_a_micro_batch_pass_through() -> None:
    guard = MemoryGuard(Gang(rank=0, world_size=1, device=torch.device("cpu")))

    def fails(error: Exception) -> torch.Tensor:
        raise error

    with pytest.raises(ZeroDivisionError):
        guard.run((1,), lambda: fails(ZeroDivisionError()))
    with pytest.raises(MemoryShortage):
        guard.run((1,), lambda: fails(torch.OutOfMemoryError()))


def test_an_allocator_of_a_real_device_is_recognised() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60)
    assert is_out_of_memory(refused.value)
