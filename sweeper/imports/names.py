"""What other trainers call the things that a recorded run is made of. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

STEP: Final = ("step", "global_step")
SAMPLES: Final = ("samples_seen", "total_samples_accumulated", "total_samples_seen")
SIGNALS: Final[Mapping[str, tuple[str, ...]]] = {
    "train_loss": ("loss", "train/loss", "train_loss", "avg_loss", "training_loss"),
    "grad_norm": ("grad_norm", "train/grad_norm", "gradnorm", "gradient_norm"),
    "learning_rate": ("learning_rate", "train/learning_rate", "lr"),
}
OBJECTIVES: Final = ("eval_loss", "val_loss", "eval/loss", "validation_loss", "score/heldout_loss")
"""Held-out losses, tried in this order where none is named."""
AXES: Final[Mapping[str, tuple[str, ...]]] = {
    "learning_rate": ("learning_rate", "lr", "train.learning_rate"),
    "warmup_steps": ("warmup_steps", "num_warmup_steps"),
    "warmup_samples": ("warmup_samples",),
    "warmup_ratio": ("warmup_ratio",),
    "schedule": ("schedule", "lr_scheduler_type", "lr_scheduler"),
    "epochs": ("epochs", "num_train_epochs", "num_epochs", "max_epochs"),
    "weight_decay": ("weight_decay",),
    "seed": ("seed",),
    "adam_beta1": ("adam_beta1", "beta1"),
    "adam_beta2": ("adam_beta2", "beta2"),
    "lora.rank": ("lora.rank", "lora_r", "lora_rank"),
    "lora.alpha": ("lora.alpha", "lora_alpha"),
}
"""Settings that are taken over; a trainer logs hundreds, most of which are paths and names of the run."""
WHOLE_BATCH: Final = ("batch_size", "effective_batch_size", "global_batch_size", "total_train_batch_size")
PARTS_OF_BATCH: Final = (
    ("per_device_train_batch_size", "micro_batch_size"),
    ("gradient_accumulation_steps",),
    ("world_size", "num_processes"),
)


def number(value: Any) -> float | None:
    """Return a logged value as a float, None for what is none; JSON and MLflow write ``NaN`` and ``Infinity``."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:
        # A whole number beyond all floats; with a point in it, JSON reads the same number as infinite.
        return math.inf if value > 0 else -math.inf


def first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the value of the first of ``names`` that is there and not empty."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def effective_batch(settings: Mapping[str, Any]) -> int | None:
    """Return samples per optimizer step, from one setting or the product of its three parts; None where not known."""
    whole = _count(first(settings, WHOLE_BATCH))
    if whole is not None:
        return whole
    parts = [_count(first(settings, names)) for names in PARTS_OF_BATCH]
    return math.prod(part for part in parts if part is not None) if None not in parts else None


def axes_of(settings: Mapping[str, Any], more: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings by our own names, and those named in ``more`` by theirs; numbers as numbers."""
    found = {axis: first(settings, names) for axis, names in AXES.items()}
    found |= {"batch_size": effective_batch(settings), **{name: settings.get(name) for name in more}}
    return {axis: _plain(value) for axis, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return numbers that were logged as text as numbers: MLflow keeps every parameter as text."""
    if not isinstance(value, str):
        return value
    found = number(value)
    if found is None or not math.isfinite(found):
        return value
    return int(found) if found.is_integer() and "e" not in value.lower() and "." not in value else found


def _count(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and math.isfinite(found) and found >= 1 and found.is_integer() else None
