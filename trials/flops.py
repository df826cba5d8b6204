"""Model FLOPs: what the mathematics of a training step needs, whatever the machine does besides.

The usual convention (Kaplan et al. 2020, arXiv 2001.08361; Chowdhery et al. 2022, arXiv 2204.02311, appendix B): two
FLOPs per multiply-add, a backward pass costs twice the forward pass, every token passes the output layer (ours skips
those without loss), recomputed activations and the optimizer count nothing. Attention is counted over each sample's
own length and over what causal attention sees, half of the square that some papers count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sweeper.core.config import Precision

_PEAK_TERAFLOPS: Final = (
    # Dense bf16 of NVIDIA's data sheets, which print twice as much, "with sparsity". The first match counts.
    ("gb200", 2500.0),
    ("b200", 2250.0),
    ("h200 nvl|h100 nvl", 835.5),
    ("gh200|h200|h800", 989.4),
    ("h100 pcie", 756.5),
    ("h100", 989.4),
    ("h20", 148.0),
    ("a100|a800", 312.0),
    ("a10", 125.0),
    ("a30", 165.0),
    ("l40s", 362.0),
    ("l40", 181.0),
    ("l4", 121.0),
    ("rtx a6000", 154.8),
    ("rtx 4090", 165.2),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What decides the FLOPs of a model."""

    matmul_parameters: float
    """Weights that each token is multiplied by, the output layer included; of experts those that are chosen."""
    trained_matmul_parameters: float
    attention_width: int
    """Attention heads times their size."""
    windows: tuple[int | None, ...]
    """How many tokens back each attention layer sees; None is all of them."""


def work_of(model: nn.Module) -> Work | None:
    """Return the work of a whole, unsharded causal LM, or None where its config does not tell."""
    config: Any = model.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    heads, layers = getattr(config, "num_attention_heads", None), getattr(config, "num_hidden_layers", None)
    share = _active_share(config)
    if not isinstance(heads, int) or not isinstance(layers, int) or share is None:
        return None
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    # A tied output layer is both; as an embedding it costs nothing.
    embeddings -= {id(model.get_output_embeddings().weight)}  # type: ignore[operator]
    total = trained = 0.0
    for name, parameter in model.named_parameters():
        is_expert = "experts" in name and "shared" not in name
        if id(parameter) in embeddings or parameter.ndim != 2 + (is_expert and parameter.ndim == 3):
            continue
        count = parameter.numel() * (share if is_expert else 1.0)
        total += count
        trained += count if parameter.requires_grad else 0.0
    return Work(
        matmul_parameters=total,
        trained_matmul_parameters=trained,
        attention_width=heads * head_size,
        windows=_windows(config, layers),
    )


def train_flops(work: Work | None, lengths: NDArray[np.int64]) -> float:
    """Return the FLOPs of training once on samples of these input lengths; 0 where the work is not known.

    Per token 2 for the forward pass, 2 for the gradient of the activations, and 2 for that of each trained weight: 6N
    in all, 4N and little more with adapters. Per pair of tokens and layer 12 times the attention width.
    """
    if work is None:
        return 0.0
    per_token = 4 * work.matmul_parameters + 2 * work.trained_matmul_parameters
    pairs = sum(count * _pairs(lengths, window) for window, count in _counted(work.windows).items())
    return float(per_token * lengths.sum() + 12 * work.attention_width * pairs)


def speed(flops: float, seconds: float, peak_flops: float | None) -> dict[str, float]:
    """Return the signals ``model_flops_per_s`` and ``mfu``, each left out where it cannot be told.

    Args:
        flops: model FLOPs of all ranks; 0 where they are not known.
        peak_flops: FLOP/s of all devices together.
    """
    if not flops:
        return {}
    found = {"model_flops_per_s": flops / seconds}
    if peak_flops is not None:
        found["mfu"] = found["model_flops_per_s"] / peak_flops
    return found


def peak_flops(device_name: str, precision: Precision) -> float | None:
    """Return a GPU's peak in FLOP/s by its name, or None where it is not known or not computing in bf16."""
    if precision != "bf16":
        return None
    name = device_name.lower()
    found = next((peak for names, peak in _PEAK_TERAFLOPS if re.search(rf"\b({names})\b", name)), None)
    return None if found is None else found * 1e12


def _pairs(lengths: NDArray[np.int64], window: int | None) -> float:
    """Return how many (token, token seen) pairs causal attention has over these samples."""
    seen = lengths.astype(np.float64) if window is None else np.minimum(lengths, window).astype(np.float64)
    return float((seen * (seen + 1) / 2 + (lengths - seen) * seen).sum())


def _counted(windows: tuple[int | None, ...]) -> dict[int | None, int]:
    return {window: windows.count(window) for window in set(windows)}


def _windows(config: Any, layers: int) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * layers
    reach = {"full_attention": None, "sliding_attention": window}
    # Recurrent layers have no pairs; what they cost beside their matrices is small.
    return tuple(reach[kind] for kind in kinds if kind in reach)


def _active_share(config: Any) -> float | None:
    """Return the share of experts that a token passes; 1 without experts, None where the config does not tell."""
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    experts = next((getattr(config, name) for name in names if getattr(config, name, None)), None)
    if experts is None:
        return 1.0
    chosen = getattr(config, "num_experts_per_tok", None)
    return None if chosen is None else chosen / experts
