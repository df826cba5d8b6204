"""Which cause of failure the error of a rank stands for."""

from __future__ import annotations

import pickle

import pytest
import torch
from ray.exceptions import RayTaskError

from sweeper.adapters.ray.faults import _cause
from sweeper.core.errors import InputError, OutOfMemory
from sweeper.core.lifecycle import FailCause


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OutOfMemory("out of memory with one sample of 900 tokens per micro-batch"), FailCause.OOM),
        (torch.OutOfMemoryError("CUDA out of memory"), FailCause.OOM),
        (MemoryError(), FailCause.OOM),
        (InputError("must be a list", where="data.train", got=3), FailCause.DATA),
        (ValueError("shapes do not fit"), FailCause.USER_CODE),
    ],
)
def test_running_out_of_memory_is_a_cause_of_its_own(raised: Exception, expected: FailCause) -> None:
    arrived = pickle.loads(pickle.dumps(raised))
    assert str(arrived) == str(raised)
    assert _cause(RayTaskError("advance", "", arrived)) is expected
