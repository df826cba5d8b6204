"""What data sheets say of the devices that sweeps are planned for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """What a data sheet says of a device. Numbers in units of 1: bytes, FLOP/s, bytes/s."""

    name: str
    memory: float | None
    """Bytes; None is not known, as for a CPU shared with others."""
    flops_bf16: float
    """Dense, without sparsity."""
    flops_fp32: float
    bandwidth: float
    """Of its own memory."""
    link: float
    """To another rank on the same node, one way."""
    efficiency: float = 0.4
    """Share of the peak that training reaches before any trial has shown it. PaLM (arXiv 2204.02311, table 3) collects
    0.21 to 0.46."""


GIB: Final = 2.0**30


def _gpu(name: str, gib: float, bf16: float, fp32: float, bandwidth: float, link: float) -> Accelerator:
    """Take GiB, teraFLOP/s, GB/s of memory and GB/s of the link."""
    return Accelerator(
        name=name,
        memory=gib * GIB,
        flops_bf16=bf16 * 1e12,
        flops_fp32=fp32 * 1e12,
        bandwidth=bandwidth * 1e9,
        link=link * 1e9,
    )


ACCELERATORS: Final = {
    # NVIDIA's data sheets; memory as the driver shows it. fp32 without TensorFloat-32, which torch leaves off.
    # NVLink's figure there is both ways together, here it is one way; without NVLink, PCIe 4 or 5 of 16 lanes.
    one.name: one
    for one in (
        _gpu("b200", 178.0, 2250.0, 75.0, 8000.0, 900.0),
        _gpu("h200", 139.8, 989.4, 66.9, 4800.0, 450.0),
        _gpu("h100", 79.2, 989.4, 66.9, 3350.0, 450.0),
        _gpu("h100-pcie", 79.2, 756.5, 51.2, 2000.0, 63.0),
        _gpu("a100", 79.2, 312.0, 19.5, 2039.0, 300.0),
        _gpu("a100-40", 39.4, 312.0, 19.5, 1555.0, 300.0),
        _gpu("l40s", 44.5, 362.0, 91.6, 864.0, 31.5),
        _gpu("l4", 22.5, 121.0, 30.3, 300.0, 31.5),
        _gpu("a10", 22.5, 125.0, 31.2, 600.0, 31.5),
        _gpu("rtx-4090", 23.6, 165.2, 82.6, 1008.0, 31.5),
    )
} | {
    # One core with AVX2 or AVX-512 does some tens of GFLOP/s. Good for orders of magnitude until a trial has run.
    "cpu": Accelerator(
        name="cpu", memory=None, flops_bf16=4e10, flops_fp32=4e10, bandwidth=1e10, link=2e9, efficiency=0.5
    )
}
_DRIVER_NAMES: Final = (
    (r"b200|gb200", "b200"), (r"h200|gh200", "h200"), (r"h100 pcie", "h100-pcie"), (r"h100|h800", "h100"),
    (r"a100.*40", "a100-40"), (r"a100|a800", "a100"), (r"l40s", "l40s"), (r"l4", "l4"), (r"a10", "a10"),
    (r"4090", "rtx-4090"),
)  # fmt: skip


def by_driver_name(name: str) -> Accelerator | None:
    """Return the accelerator that a driver calls ``name``, e.g. ``NVIDIA H100 80GB HBM3``."""
    found = next((key for names, key in _DRIVER_NAMES if re.search(rf"\b({names})\b", name.lower())), None)
    return None if found is None else ACCELERATORS[found]
