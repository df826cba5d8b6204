"""Python, packages and GPUs, judged from what ``trials machine`` and the driver tell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Final

from sweeper.core.accelerators import GIB
from sweeper.core.figures import percent, plural
from sweeper.doctor.finding import Finding, fail, ok, warn

LEAST: Final = {"torch": "2.11", "transformers": "5.17", "ray": "2.60", "optuna": "5.0", "mlflow": "3.10"}
"""Oldest versions that work; pyproject.toml names the same."""
PYTHONS: Final = ((3, 11), (3, 13))
FREE_SHARE: Final = 0.9
"""Share of a GPU's memory that is free where nobody else uses it."""


def machine_facts() -> dict[str, Any]:
    """Return what ``python -m trials machine`` tells, or the reason under ``error``."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, "-m", "trials", "machine"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return {"error": (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]}
    return found


def python(version: tuple[int, int]) -> Finding:
    """Judge the interpreter."""
    text = ".".join(map(str, version))
    oldest, newest = ((".".join(map(str, one))) for one in PYTHONS)
    if version < PYTHONS[0]:
        return fail("python", f"{text} is too old", f"make the environment anew with Python {oldest} to {newest}")
    if version > PYTHONS[1]:
        return warn("python", f"{text} is newer than what is tested", f"use Python {oldest} to {newest}")
    return ok("python", text)


def versions() -> Iterator[Finding]:
    """Judge the versions of the libraries that the sweep itself needs."""
    for name in ("ray", "optuna", "mlflow"):
        try:
            yield _version(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield fail(name, "not installed", f"pip install '{name}>={LEAST[name]}'")


def packages(facts: Mapping[str, Any], *, needs: Sequence[str] = (), has_gpu: bool = False) -> Iterator[Finding]:
    """Judge what trials import.

    Args:
        facts: of ``machine_facts``.
        needs: optional packages that the search space asks for.
        has_gpu: whether the driver sees a GPU.
    """
    if "error" in facts:
        yield fail("trials", str(facts["error"]), "pip install --force-reinstall -e . (or pip install sweeper)")
        return
    found = facts["packages"]
    for name in ("torch", "transformers"):
        error = found[name].get("error")
        if error:
            yield fail(name, error, f"pip install --force-reinstall '{name}>={LEAST[name]}'")
        else:
            yield _version(name, found[name]["version"])
    extras = {"deepspeed": "deepspeed", "peft": "lora", "lm_eval": "eval"}
    for name, extra in extras.items():
        error = found[name].get("error")
        if error is None:
            yield ok(name, found[name]["version"])
        elif name in needs:
            yield fail(name, f"{error}, and the search space needs it", f"pip install 'sweeper[{extra}]'")
        else:
            yield ok(name, f"{error}; nothing here needs it")
    yield _flash_attention(found["flash_attn"], has_gpu=has_gpu, has_varlen=facts.get("varlen") is True)


def gpus(facts: Mapping[str, Any], driver: Sequence[tuple[str, float]], *, ranks: int | None) -> Iterator[Finding]:
    """Judge the GPUs: those that the driver sees, those that torch sees, and what is free of them.

    Args:
        driver: name and bytes of each GPU that ``nvidia-smi`` names.
        ranks: of the largest gang that the search space asks for; None without one.
    """
    cuda = facts.get("cuda") or {}
    devices = cuda.get("devices", [])
    if not devices and driver:
        yield fail(
            "gpu",
            f"the driver sees {plural(len(driver), 'GPU')} ({driver[0][0]}), torch sees none"
            + (f": {cuda['error']}" if "error" in cuda else " (a CPU build)" if not cuda.get("build") else ""),
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130",
        )
        return
    if not devices:
        yield ok("gpu", "none: trials run on CPU cores")
        return
    yield ok("gpu", f"{len(devices)} x {devices[0]['name']}, {devices[0]['total'] / GIB:.0f} GiB")
    taken = [index for index, one in enumerate(devices) if one["free"] < FREE_SHARE * one["total"]]
    if taken:
        least = min(devices[index]["free"] / devices[index]["total"] for index in taken)
        yield warn(
            "gpu memory",
            f"others use GPU {', '.join(map(str, taken))}: {percent(least)} free",
            "nvidia-smi shows by whom; CUDA_VISIBLE_DEVICES=... leaves it out",
        )
    if ranks is not None and ranks > len(devices):
        yield warn(
            "gang", f"a gang of {ranks} ranks does not fit the {len(devices)} GPUs here", "run --address CLUSTER"
        )
    if len(devices) > 1:
        yield from _links(facts, cuda)
    if not all(one["bf16"] for one in devices):
        yield warn("bf16", "this GPU has no bf16", "--set train.precision=fp32")


def _links(facts: Mapping[str, Any], cuda: Mapping[str, Any]) -> Iterator[Finding]:
    nccl = facts.get("nccl")
    if isinstance(nccl, str):
        yield ok("nccl", nccl)
    else:
        yield fail("nccl", "torch has none", "pip install --force-reinstall torch (a CUDA build, on Linux)")
    if cuda.get("peers"):
        yield ok("interconnect", "GPUs reach each other's memory")
    else:
        yield warn(
            "interconnect",
            "GPUs do not reach each other's memory: exchange goes through the host",
            "nvidia-smi topo -m shows the links; set train.shard_ranks to GPUs that are linked",
        )


def _flash_attention(found: Mapping[str, str], *, has_gpu: bool, has_varlen: bool) -> Finding:
    error = found.get("error")
    if error is None:
        return ok("flash-attn", found["version"])
    if error != "not installed":
        # A build for another torch; transformers takes its presence for granted.
        return fail("flash-attn", error, "pip uninstall -y flash-attn && pip install flash-attn --no-build-isolation")
    if has_gpu and not has_varlen:
        return warn(
            "flash-attn", "not installed, and torch has no kernel here", "pip install flash-attn --no-build-isolation"
        )
    return ok("flash-attn", "not installed; torch's own kernels do" if has_gpu else "not installed; of no use on a CPU")


def _version(name: str, version: str) -> Finding:
    if _numbers(version) < _numbers(LEAST[name]):
        return fail(name, f"{version} is older than {LEAST[name]}", f"pip install -U '{name}>={LEAST[name]}'")
    return ok(name, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
