"""What trials would find on this machine: ``python -m trials machine`` prints it as one JSON object.

Each part is tried by itself, so that a broken one is named and hides no other.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from importlib import metadata
from typing import Any

_PACKAGES = ("torch", "transformers", "datasets", "numpy", "deepspeed", "peft", "lm_eval", "flash_attn")
_DISTRIBUTIONS = {"lm_eval": "lm-eval", "flash_attn": "flash-attn"}


def machine() -> dict[str, Any]:
    """Return packages with version or error, and what torch sees of GPUs."""
    found: dict[str, Any] = {"packages": {name: _package(name) for name in _PACKAGES}}
    if "error" in found["packages"]["torch"]:
        return found
    return found | {"cuda": _tried(_cuda), "nccl": _tried(_nccl), "varlen": _tried(_varlen)}


def _package(name: str) -> dict[str, str]:
    """Return the version, or why it cannot be used; DeepSpeed is looked up only: its import takes seconds."""
    if importlib.util.find_spec(name) is None:
        return {"error": "not installed"}
    try:
        version = metadata.version(_DISTRIBUTIONS.get(name, name))
    except metadata.PackageNotFoundError:
        version = "unknown"
    if name in ("torch", "transformers", "flash_attn"):
        try:
            importlib.import_module(name)
        except Exception as error:  # A broken package can fail in any way; all are told alike.
            return {"error": f"cannot be imported: {type(error).__name__}: {error}".split("\n")[0], "version": version}
    return {"version": version}


def _tried(find: Callable[[], Any]) -> Any:
    try:
        return find()
    except Exception as error:  # As above.
        return {"error": f"{type(error).__name__}: {error}".split("\n")[0]}


def _cuda() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"build": torch.version.cuda, "devices": []}
    devices = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        devices.append({"name": name, "free": free, "total": total, "bf16": torch.cuda.is_bf16_supported()})
    peers = [
        torch.cuda.can_device_access_peer(a, b) for a in range(len(devices)) for b in range(len(devices)) if a != b
    ]
    return {"build": torch.version.cuda, "devices": devices, "peers": all(peers)}


def _nccl() -> str | None:
    import torch

    if not torch.distributed.is_nccl_available() or not torch.cuda.is_available():
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]


def _varlen() -> bool:
    import torch

    from trials.kernels import has_torch_varlen

    return torch.cuda.is_available() and has_torch_varlen(torch.device("cuda", 0))
