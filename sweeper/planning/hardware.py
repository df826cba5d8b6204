"""The devices that a plan is made for: those named, else those found here."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from dataclasses import dataclass

from sweeper.core.accelerators import ACCELERATORS, GIB, Accelerator, by_driver_name
from sweeper.core.decode import nearest
from sweeper.core.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """What a sweep may use."""

    device: Accelerator
    count: int
    """GPUs, or CPU cores where there is no GPU."""
    origin: str
    """Where these come from, for people."""

    @property
    def is_gpu(self) -> bool:
        return self.device.name != "cpu"


def hardware(name: str | None, memory_gib: float | None, count: int | None) -> Hardware:
    """Return the hardware by its flags; what is not said is what this machine has.

    Args:
        memory_gib: GiB of one GPU, in place of the preset's.

    Raises:
        InputError: the GPU is not known, or a number makes no sense.
    """
    if count is not None and count < 1:
        raise InputError("must be at least 1", where="--gpus", got=count)
    if memory_gib is not None and memory_gib <= 0:
        raise InputError("must be above 0", where="--gpu-memory-gb", got=memory_gib)
    if name is None:
        found = _found(memory_gib, count)
    elif name.lower() in ACCELERATORS:
        device = ACCELERATORS[name.lower()]
        found = Hardware(device=device, count=count or (1 if device.name != "cpu" else _cores()), origin="as asked for")
    else:
        raise InputError("is not known", where="--gpu", got=name, mend=nearest(name.lower(), ACCELERATORS))
    if memory_gib is not None:
        found = dataclasses.replace(found, device=dataclasses.replace(found.device, memory=memory_gib * GIB))
    return found


def _found(memory_gib: float | None, count: int | None) -> Hardware:
    here = gpus_here()
    if here:
        name, memory = here[0]
        device = dataclasses.replace(by_driver_name(name) or ACCELERATORS["a100"], memory=memory)
        return Hardware(device=device, count=count or len(here), origin=f"found here: {name}")
    if memory_gib is not None or count is not None:
        # Of a GPU whose name is not given only the memory is known: speed is that of a common one.
        return Hardware(device=ACCELERATORS["a100"], count=count or 1, origin="speed of an a100: name yours with --gpu")
    return Hardware(device=ACCELERATORS["cpu"], count=_cores(), origin="no GPU here: name yours with --gpu")


def gpus_here() -> list[tuple[str, float]]:
    """Return name and memory in bytes of each NVIDIA GPU of this machine, as its driver tells them."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line and done.returncode == 0]
    return [(name.strip(), float(mib) * 2**20) for name, mib in rows if mib.strip().isdigit()]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
