"""Which attention a model gets, so that the samples of a packed row never see each other.

A row's samples lie one after another without padding, and attention is told where each begins. transformers' own way,
a block mask from restarting positions, is not used: its cost grows with the square of the row, and several classes
never pass it the positions, so that samples see each other without a word (OPT, GPT-OSS, Falcon, LFM2 in 5.23).

The choice is made once per model, from facts alone; what a kernel does not compute exactly goes to a slower backend,
and a model that cannot be told where samples begin is padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sweeper.core.config import Precision
from trials.kernels import BORDERS, Backend, has_flash_attn, has_torch_varlen, register, registered
from trials.packing import Layout

MAX_HEAD_DIM = 256
"""Widest head that the variable-length kernels take; widths must be multiples of 8, too."""
_KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention", "attention"})


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionFacts:
    """What decides which backends compute a model's attention exactly."""

    is_stateful: bool = False
    """Some layers may carry state from token to token other than by attention."""
    is_pluggable: bool = True
    """The model leaves attention to transformers' interface, windows included, and hands on where samples begin."""
    is_causal: bool = True
    softcap: float | None = None
    has_sinks: bool = False
    head_dims: tuple[int, ...] = (64,)
    """Widths of queries, keys and values, as many as there are different ones."""
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What this process can compute with."""

    device: str
    precision: Precision
    has_flash_attn: bool = False
    has_torch_varlen: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """How one model attends and is fed."""

    backend: Backend | Literal["own"]
    """``own``: what transformers gives the model by itself."""
    layout: Layout
    reason: str


def choose(facts: AttentionFacts, machine: Machine) -> Choice:
    """Return the backend and layout of a model on a machine, and why."""
    if facts.is_stateful:
        return _padded("layers that are not attention would carry state from one sample to the next")
    if not facts.is_pluggable:
        return _padded("the model cannot be told where samples begin")
    if not facts.is_causal:
        return _padded("attention is not causal")
    if machine.device != "cuda":
        return _segments(f"there is no variable-length kernel on {machine.device}")
    if machine.precision == "fp32":
        return _segments("variable-length kernels compute in bf16 only")
    if facts.has_sinks:
        return _segments("variable-length kernels have no attention sinks")
    if len(facts.head_dims) > 1 or any(dim > MAX_HEAD_DIM or dim % 8 for dim in facts.head_dims):
        return _segments(f"variable-length kernels do not take heads of width {_list(facts.head_dims)}")
    if machine.has_flash_attn:
        return Choice(backend="flash_attn", layout="packed", reason="flash-attn is installed")
    if not machine.has_torch_varlen:
        return _segments("neither flash-attn nor torch's variable-length attention is there")
    if facts.softcap is not None or facts.dropout:
        return _segments("torch's variable-length attention has neither softcap nor dropout")
    return Choice(backend="torch_varlen", layout="packed", reason="flash-attn is not installed")


def _padded(reason: str) -> Choice:
    return Choice(backend="own", layout="padded", reason=reason)


def _segments(reason: str) -> Choice:
    return Choice(backend="segments", layout="packed", reason=reason)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def set_attention(model: nn.Module, device: torch.device, precision: Precision) -> Choice:
    """Give a transformers model its backend and return the choice; to be called before the model is wrapped."""
    is_cuda = device.type == "cuda"
    machine = Machine(
        device=device.type,
        precision=precision,
        has_flash_attn=is_cuda and has_flash_attn(),
        has_torch_varlen=is_cuda and has_torch_varlen(device),
    )
    choice = choose(facts_of(model), machine)
    if choice.backend != "own":
        _set(model, register(choice.backend))
    return choice


def takes_borders(model: nn.Module) -> bool:
    """Tell whether the model was given a backend that needs to know where samples begin."""
    return registered(str(getattr(model.config, "_attn_implementation", "")))


def facts_of(model: nn.Module) -> AttentionFacts:
    """Return what a transformers model's class, config and parameters say of its attention."""
    config: Any = model.config
    text: Any = config.get_text_config() if hasattr(config, "get_text_config") else config
    # A class that may run flash-attn hands its windows to the attention function; others put them into the mask.
    has_interface = getattr(model, "_supports_attention_backend", False) and getattr(
        model, "_supports_flash_attn", False
    )
    return AttentionFacts(
        is_stateful=is_stateful(model),
        is_pluggable=bool(has_interface) and _hands_on_borders(model),
        is_causal=bool(getattr(text, "is_causal", True)),
        softcap=getattr(text, "attn_logit_softcapping", None),
        has_sinks=any(name.rpartition(".")[2] in ("sinks", "sink") for name, _ in model.named_parameters()),
        head_dims=_head_dims(text),
        dropout=max(float(getattr(text, name, None) or 0.0) for name in ("attention_dropout", "attn_pdrop")),
    )


def is_stateful(model: nn.Module) -> bool:
    """Tell whether some layers may carry state from token to token other than by attention."""
    config: Any = model.config
    text: Any = config.get_text_config() if hasattr(config, "get_text_config") else config
    # Not every class with short convolutions says of itself that it is stateful; the layers' names do.
    layer_types = set(getattr(text, "layer_types", None) or ())
    return bool(getattr(model, "_is_stateful", False)) or not layer_types <= _KNOWN_LAYERS


def _head_dims(config: Any) -> tuple[int, ...]:
    heads = getattr(config, "num_attention_heads", None) or 1
    plain = getattr(config, "head_dim", None) or getattr(config, "hidden_size", heads) // heads
    if getattr(config, "v_head_dim", None):  # Latent attention: queries and values have widths of their own.
        found = {config.v_head_dim, getattr(config, "qk_head_dim", None) or plain}
    else:
        found = {plain, getattr(config, "global_head_dim", None) or plain}
    return tuple(sorted(found))


class _Reached(Exception):
    """Attention was called."""

    def __init__(self, has_borders: bool) -> None:
        self.has_borders = has_borders


def _hands_on_borders(model: nn.Module) -> bool:
    """Tell whether what the model is called with reaches its attention: some classes drop it on the way.

    Runs two tokens through the model up to its first attention, so it costs no more than that layer's projections.
    """

    def stop(*_: object, cu_seq_lens_q: object = None, **__: object) -> None:
        raise _Reached(cu_seq_lens_q is not None)

    before = str(model.config._attn_implementation)  # type: ignore[union-attr]
    _set(model, register("segments", stop))
    device = next(model.parameters()).device
    positions = torch.zeros((1, 2), dtype=torch.int64, device=device)
    borders = torch.arange(3, dtype=torch.int32, device=device)
    try:
        # Autocast as in training: it lets a layer meet activations of another type.
        with torch.no_grad(), _in_fp32(model), torch.autocast(device.type, dtype=torch.bfloat16):
            model(
                input_ids=positions,
                position_ids=positions,
                attention_mask=None,
                use_cache=False,
                **dict.fromkeys(BORDERS[:2], borders),
                **dict.fromkeys(BORDERS[2:], 1),
            )
    except _Reached as reached:
        return reached.has_borders
    except TypeError:  # It does not take such keywords at all.
        return False
    finally:
        _set(model, before)
    return False


@contextmanager
def _in_fp32(model: nn.Module) -> Iterator[None]:
    """Widen the weights of each module that runs, and put back at the end what was there.

    Base weights lie in the types they are stored in, and not every class can run in a mixture of these.
    """
    before: list[tuple[nn.Parameter, Tensor]] = []

    def widen(module: nn.Module, _: object) -> None:
        for parameter in module.parameters(recurse=False):
            if parameter.is_floating_point() and parameter.dtype != torch.float32:
                before.append((parameter, parameter.data))
                parameter.data = parameter.data.float()

    hooks = [module.register_forward_pre_hook(widen) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, values in before:
            parameter.data = values


def _set(model: nn.Module, name: str) -> None:
    model.set_attn_implementation(name)  # type: ignore[operator]
