"""Attention over samples that lie one after another, as functions that transformers calls by name.

Three backends: flash-attn's and torch's variable-length kernels on GPUs, and a loop over samples that runs anywhere.
Shapes: R rows, T slots of a row, H query heads, G heads of keys and values (G divides H), D width of a head; L slots of
all rows laid end to end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from inspect import signature
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Backend = Literal["flash_attn", "torch_varlen", "segments"]
BORDERS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""What transformers calls the first slot of each sample (twice) and the longest sample (twice)."""
# Without "flash" in the name: transformers would take it for its own and ask for a padding mask.
_NAMES: dict[Backend, str] = {"flash_attn": "trials_fa", "torch_varlen": "trials_varlen", "segments": "trials_segments"}
_BORDERS_NEEDED = (1, 1, 0, 0)
"""Shape of the mask that stands for "these rows are packed": nothing can take it for a mask by mistake."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a kernel is told besides queries, keys and values."""

    borders: Tensor
    """First slot of each sample and the end of the last, int32, [sample + 1]."""
    longest: int
    scale: float
    window: int | None = None
    """Tokens that each token sees, itself included."""
    dropout: float = 0.0
    softcap: float | None = None
    sinks: Tensor | None = None
    """Logit of each head that takes part in the softmax and is attended by nothing, [H]."""


Kernel = Callable[[Tensor, Tensor, Tensor, Ask], Tensor]
"""Query [L, H, D], key and value [L, G, D] -> [L, H, D]."""


def register(backend: Backend, function: Callable[..., Any] | None = None) -> str:
    """Make a backend known to transformers and return its name there; ``function`` replaces the backend's own."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    name = _NAMES[backend] if function is None else "trials_probe"
    AttentionInterface.register(name, function or partial(attend, _KERNELS[backend]))
    AttentionMaskInterface.register(name, mask)
    return name


def registered(name: str) -> bool:
    """Tell whether transformers' attention of this name is one of the backends."""
    return name in _NAMES.values()


def mask(*arguments: Any, **settings: Any) -> Tensor | None:
    """Return the mask for one kind of layers: none where whole samples are told apart by their borders."""
    from transformers.masking_utils import sdpa_mask

    is_whole = settings.get("attention_mask") is None and settings["q_length"] == settings["kv_length"]
    if not is_whole or settings.get("use_vmap"):
        made: Tensor | None = sdpa_mask(*arguments, **settings)
        return made
    # Skipping the mask is forbidden where positions restart within a row.
    if settings.get("allow_is_causal_skip", True):
        return None
    return torch.empty(_BORDERS_NEEDED, dtype=torch.bool, device=settings.get("device", "cpu"))


def attend(
    kernel: Kernel,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query [R, H, T, D], key and value [R, G, T, D] -> [R, T, H, D].

    A mask that was built is honoured (generation with padding or a cache). Without mask and borders each row is one
    sample.

    Raises:
        RuntimeError: positions restart within a row, and no borders came with them.
    """
    rows, heads, slots, width = query.shape
    is_packed = attention_mask is not None and attention_mask.shape == _BORDERS_NEEDED
    scale = width**-0.5 if scaling is None else scaling
    if cu_seq_lens_q is not None and max_length_q is not None and (is_packed or attention_mask is None):
        ask = Ask(cu_seq_lens_q, max_length_q, scale, sliding_window, dropout, softcap, s_aux)
        q, k, v = (one.transpose(1, 2).flatten(0, 1) for one in (query, key, value))
        return kernel(q, k, v, ask).view(rows, slots, heads, -1), None
    if is_packed:
        raise RuntimeError("packed rows came to attention without their borders: samples would leak")
    ask = Ask(torch.empty(0), 0, scale, sliding_window, dropout, softcap, s_aux)
    return causal(query, key, value, ask, attention_mask).transpose(1, 2), None


def segments(query: Tensor, key: Tensor, value: Tensor, ask: Ask) -> Tensor:
    """Causal attention apart for each run of samples of one length; samples come sorted, so the runs are long."""
    runs = [(length, len(list(run))) for length, run in groupby(ask.borders.diff().tolist())]
    sizes = [length * count for length, count in runs]
    outputs = []
    for (length, count), *run in zip(runs, *(torch.split(one, sizes) for one in (query, key, value)), strict=True):
        q, k, v = (one.view(count, length, *one.shape[1:]).transpose(1, 2) for one in run)
        outputs.append(causal(q, k, v, ask).transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


def causal(query: Tensor, key: Tensor, value: Tensor, ask: Ask, attention_mask: Tensor | None = None) -> Tensor:
    """Attention of whole rows, [R, H, T, D], causal where no mask is given; keys may be more than queries then."""
    slots = query.shape[2]
    if attention_mask is None and ask.window is not None and key.shape[2] == slots > ask.window:
        attention_mask = _band(slots, ask.window, query.device)
    is_causal = attention_mask is None and slots > 1
    if ask.softcap is None and ask.sinks is None:
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            dropout_p=ask.dropout,
            is_causal=is_causal,
            scale=ask.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return _spelled_out(query, key, value, ask, _band(slots, slots, query.device) if is_causal else attention_mask)


def _spelled_out(query: Tensor, key: Tensor, value: Tensor, ask: Ask, attention_mask: Tensor | None) -> Tensor:
    """Attention with softcap (Gemma 2, arXiv 2408.00118) and sinks (arXiv 2309.17453), which torch's has not."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = (query @ key.transpose(2, 3)).float() * ask.scale
    if ask.softcap is not None:
        scores = ask.softcap * torch.tanh(scores / ask.softcap)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    if ask.sinks is not None:
        sinks = ask.sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = scores.softmax(dim=-1)[..., : key.shape[2]].to(value.dtype)
    return functional.dropout(weights, ask.dropout) @ value


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Return the causal mask [length, length] in which each token sees ``window`` tokens."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def flash_attn(query: Tensor, key: Tensor, value: Tensor, ask: Ask) -> Tensor:
    """Run flash-attn's kernel."""
    from flash_attn import flash_attn_varlen_func

    attended: Tensor = flash_attn_varlen_func(
        *_halved(query, key, value),
        cu_seqlens_q=ask.borders,
        cu_seqlens_k=ask.borders,
        max_seqlen_q=ask.longest,
        max_seqlen_k=ask.longest,
        dropout_p=ask.dropout,
        softmax_scale=ask.scale,
        causal=True,
        window_size=_window(ask),
        softcap=ask.softcap or 0.0,
    )
    return attended


def torch_varlen(query: Tensor, key: Tensor, value: Tensor, ask: Ask) -> Tensor:
    """Run torch's kernel."""
    from torch.nn.attention.varlen import varlen_attn

    if ask.dropout or ask.softcap is not None:
        raise ValueError("torch's variable-length attention has neither dropout nor softcap")
    settings: dict[str, Any] = {"scale": ask.scale, "window_size": _window(ask)}
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" in signature(varlen_attn).parameters:
        settings["enable_gqa"] = True
    elif groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    query, key, value = _halved(query, key, value)
    attended = varlen_attn(query, key, value, ask.borders, ask.borders, ask.longest, ask.longest, **settings)
    assert isinstance(attended, Tensor)  # A pair only where more was asked for.
    return attended


def _window(ask: Ask) -> tuple[int, int]:
    """Return how many tokens to the left and right are seen, the token itself not counted; -1 is all of them."""
    return (-1 if ask.window is None else ask.window - 1, 0)


def _halved(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tensors in bf16 where autocast has left fp32: rotary embeddings compute in it, the kernels cannot."""
    return query.to(torch.bfloat16), key.to(torch.bfloat16), value.to(torch.bfloat16)


_KERNELS: dict[Backend, Kernel] = {"flash_attn": flash_attn, "torch_varlen": torch_varlen, "segments": segments}


def has_flash_attn() -> bool:
    """Tell whether flash-attn is there, has softcaps, and fits this torch: a build for another one fails at import."""
    if find_spec("flash_attn") is None:
        return False
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return False
    return "softcap" in signature(flash_attn_varlen_func).parameters


def has_torch_varlen(device: torch.device) -> bool:
    """Tell whether torch's variable-length attention has windows and scales, and this GPU (Ampere or newer) runs it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"scale", "window_size"} <= set(signature(varlen_attn).parameters) and (
        torch.cuda.get_device_capability(device) >= (8, 0)
    )
