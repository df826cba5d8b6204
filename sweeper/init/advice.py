"""Which values are worth trying, from the size of the data and of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EPOCHS: Final = 3
LEAST_STEPS: Final = 12
"""Optimizer steps below which a trial says little of its learning rate."""
_BATCHES: Final = (
    # Samples from which they make sense, batch sizes, and why.
    (100_000, (128, 3840, 7680), "those of arXiv 2412.13337: small, medium and large"),
    (10_000, (64, 256, 1024), "around 256, which its authors now advise from 10,000 samples on"),
    (1_000, (32, 128, 512), "around 128, which the authors of arXiv 2412.13337 now advise below 10,000 samples"),
    (0, (8, 32, 64), "around 32 to 64, which the authors of arXiv 2412.13337 now advise below 1,000 samples"),
)
_RATES: Final = (
    # Weights up to which they make sense, and learning rates: the last but one is about right, the first leaves room.
    (1e7, (1e-4, 5e-4, 2e-3, 1e-2), "a model of some 100,000 weights was best at 2e-3 (the quickstart)"),
    (1e9, (2e-6, 1e-5, 5e-5, 2e-4), "between those of 7B models and of tiny ones"),
    (2e10, (5e-7, 2e-6, 5e-6, 2e-5), "arXiv 2412.13337: best at 1e-6 (Mistral 7B) and 2e-5 (Granite 7B)"),
    (float("inf"), (2e-7, 1e-6, 5e-6, 1e-5), "below those of 7B models"),
)
_LORA_FACTOR: Final = 20
"""Adapters want about so much more: full training is best near 2e-5, LoRA was near 3e-4 to 1e-3 on 27 models (Tinker
cookbook's supervised grid)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """Axes of a first grid, each with its reason."""

    batch_sizes: tuple[int, ...]
    batch_reason: str
    learning_rates: tuple[float, ...]
    rate_reason: str
    warmup_ratios: tuple[float, ...]
    epochs: int = EPOCHS


def advise(samples: int, parameters: float | None, *, lora: bool) -> Advice:
    """Return the axes for so many training samples and weights; where the weights are unknown, those of a 7B model."""
    sizes, reason = next((sizes, why) for least, sizes, why in _BATCHES if samples >= least)
    fitting = tuple(size for size in sizes if size <= samples and EPOCHS * samples / size >= LEAST_STEPS)
    found, why = next((rates, why) for most, rates, why in _RATES if (parameters or 7e9) <= most)
    rates: tuple[float, ...] = found
    if lora:
        rates = tuple(float(f"{_LORA_FACTOR * rate:.6g}") for rate in rates)
        why = f"{_LORA_FACTOR} times those of full training; {why}"
    return Advice(
        batch_sizes=fitting or (max(1, samples // LEAST_STEPS),),
        batch_reason=reason,
        learning_rates=rates,
        rate_reason=why,
        # A share of training, so that it is feasible at every batch size. The paper found nothing lost without warmup.
        warmup_ratios=(0.0, 0.03),
    )
