"""Which cause of failure the error of a rank stands for."""

from __future__ import annotations

import pickle

import pytest
import torch
from ray.exceptions import RayTaskError

from sweeper.adapters.ray.faults import _cause
from sweeper.adapters.ray.rank import interface_of
from sweeper.core.errors import InputError, OutOfMemory
from sweeper.core.lifecycle import FailCause

UNREACHED = (
    "Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:152] timed out connecting: "
    "SO_ERROR: Connection refused, remote=[127.0.1.1]:29606"
)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OutOfMemory("out of memory with one sample of 900 tokens per micro-batch"), FailCause.OOM),
        (torch.OutOfMemoryError("CUDA out of memory"), FailCause.OOM),
        (MemoryError(), FailCause.OOM),
        (InputError("must be a list", where="data.train", got=3), FailCause.DATA),
        (ValueError("shapes do not fit"), FailCause.USER_CODE),
        (RuntimeError(UNREACHED), FailCause.CRASH),
        (torch.distributed.DistNetworkError("The client socket has timed out after 300000ms"), FailCause.CRASH),
    ],
)
def test_memory_data_and_the_network_are_causes_apart_from_the_user_s_code(
    raised: Exception, expected: FailCause
) -> None:
    arrived = pickle.loads(pickle.dumps(raised))
    assert str(arrived) == str(raised)
    assert _cause(RayTaskError("advance", "", arrived)) is expected


def test_an_address_is_borne_by_one_interface_or_none() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.7") is None
