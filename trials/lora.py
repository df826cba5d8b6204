"""LoRA (Hu et al. 2021, arXiv 2106.09685) through ``peft``: W stays as it is, and alpha / rank * B A is added to it.

``peft`` puts the adapters into the model's linear layers; everything else is decided here, so that a trial's adapters
are a function of its seed alone, on every engine and any number of ranks. Needs the extra ``lora``.

The weights of adapted layers never change, so they are held in the precision they are computed in: under bf16 that
halves their memory and changes no bit, since fp32 weights would be rounded to bf16 at every use. Adapters are fp32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.config import ALL_LINEAR, LoraConfig, Precision
from sweeper.core.errors import InputError

_DOWN, _UP, _BASE = ".lora_A.default", ".lora_B.default", ".base_layer"


def add_adapters(model: nn.Module, lora: LoraConfig) -> None:
    """Put adapters into a model, in place, and freeze all the rest.

    Engines give them the values of ``fresh_adapter``, and all weights the types of ``held_dtype``.

    Raises:
        InputError: peft is absent, or finds nothing to adapt.
    """
    try:
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise InputError("LoRA needs peft", where="train.lora", mend="pip install 'sweeper[lora]'") from error
    try:
        inject_adapter_in_model(_peft_config(lora), model)
    except ValueError as error:
        raise InputError(
            "names no layer that can be adapted",
            where="train.lora.target_modules",
            got=lora.target_modules,
            mend=str(error).split(". ")[0],
        ) from error
    for name, module in model.named_modules():
        base = getattr(module, "base_layer", None)
        if base is not None and not isinstance(base, nn.Linear):
            raise InputError(
                "only linear layers can be adapted",
                where="train.lora.target_modules",
                got=f"{name}: {type(base).__name__}",
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name))


def is_adapter(name: str) -> bool:
    """Return whether a parameter belongs to an adapter."""
    return _DOWN in name or _UP in name


def held_dtype(name: str, precision: Precision) -> torch.dtype:
    """Return the type that an engine holds a parameter in."""
    return torch.bfloat16 if precision == "bf16" and _BASE in name else torch.float32


def fresh_adapter(name: str, shape: torch.Size, seed: int) -> Tensor:
    """Return an adapter's initial value, whole, in fp32 on the CPU.

    B is zero, so that a trial begins with the base model; A is uniform within 1 / sqrt(inputs), peft's own choice,
    drawn from the seed and the parameter's name.
    """
    if _UP in name:
        return torch.zeros(shape)
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    draw = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return (torch.rand(shape, generator=draw) * 2 - 1) / math.sqrt(shape[1])


def merge(weights: Mapping[str, Tensor], lora: LoraConfig) -> dict[str, Tensor]:
    """Return the weights of the bare model, fp32, with what the adapters have learned added to them."""
    merged = {name.replace(_BASE, ""): value.float() for name, value in weights.items() if not is_adapter(name)}
    for name, down in weights.items():
        if _DOWN not in name:
            continue
        change = weights[name.replace(_DOWN, _UP)] @ down * (lora.alpha / lora.rank)
        target = name.replace(_DOWN, "")
        merged[target] = merged[target] + change
    return merged


def save_adapter(weights: Mapping[str, Tensor], lora: LoraConfig, base: str, folder: Path) -> None:
    """Write the adapters as ``PeftModel.from_pretrained`` reads them."""
    from safetensors.torch import save_file

    config = _peft_config(lora)
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(str(folder))
    adapters = {
        f"base_model.model.{name.replace('.default', '')}": value.contiguous()
        for name, value in weights.items()
        if is_adapter(name)
    }
    save_file(adapters, folder / "adapter_model.safetensors")


def _peft_config(lora: LoraConfig) -> Any:
    from peft import LoraConfig as PeftConfig

    names = list(lora.target_modules)
    return PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names[0] if names == [ALL_LINEAR] else names,
        bias="none",
        task_type="CAUSAL_LM",
    )
