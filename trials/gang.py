"""The ranks of one trial, as each of them sees itself, and the few reductions they need."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported at run time, not in its stubs

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gang:
    """One rank's view of its gang."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def device_name(self) -> str:
        """The GPU's name as its driver gives it; ``cpu`` for a CPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def sum(self, values: Tensor) -> Tensor:
        """Return ``values`` summed over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(values, op=dist.ReduceOp.SUM)
        return values

    def max(self, values: Tensor) -> Tensor:
        """Return the elementwise maximum over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is set on any rank; the CPUs talk, nobody waits for a device."""
        if self.world_size == 1:
            return flag
        value = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, by rank; anything that can be pickled."""
        if self.world_size == 1:
            return [value]
        values: list[T] = [value] * self.world_size
        dist.all_gather_object(values, value)
        return values


def choose_device(name: str | None) -> torch.device:
    """Return the device called ``name``; without a name this process's GPU where there is one, else the CPU."""
    if name is not None:
        return torch.device(name)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # torchrun shows every rank all GPUs of the node and numbers its ranks; Ray shows each rank its own GPU alone.
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def share_cores(world_size: int) -> None:
    """Give this rank its part of the cores, unless the caller has set ``OMP_NUM_THREADS``."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world_size))


def connect(gang: Gang, init_method: str) -> None:
    """Form the process group; a lone rank needs no address."""
    if gang.device.type == "cuda":
        torch.cuda.set_device(gang.device)
    # On GPUs too the CPUs can talk to each other: see ``Gang.any``.
    backend = "cpu:gloo,cuda:nccl" if gang.device.type == "cuda" else "gloo"
    if gang.world_size == 1:
        # torch exports HashStore at run time, its stubs do not say so.
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    elif init_method.startswith("tcp://"):
        served = _store(gang, init_method)
        dist.init_process_group(backend, store=served, rank=gang.rank, world_size=gang.world_size)
    else:
        dist.init_process_group(backend, init_method=init_method, rank=gang.rank, world_size=gang.world_size)


def _store(gang: Gang, address: str) -> TCPStore:
    """Return the ranks' common store, which rank 0 serves at ``tcp://HOST:PORT`` and at no other of its addresses.

    It asks nobody for a password, and torch by itself would let it listen on all of them.
    """
    where = urlsplit(address)
    host, port = str(where.hostname), int(where.port or 0)
    if gang.rank != 0:
        return TCPStore(host, port, gang.world_size, is_master=False)
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    return TCPStore(host, port, gang.world_size, is_master=True, master_listen_fd=listener.detach())
