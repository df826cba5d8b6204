"""How a first trial is laid out on the devices at hand: as few ranks as its memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sweeper.core.config import LoraConfig, TrainConfig
from sweeper.core.errors import InputError
from sweeper.core.figures import count
from sweeper.core.memory import estimate
from sweeper.core.micro_batch import Lengths, batches
from sweeper.core.shape import ModelShape
from sweeper.planning.hardware import Hardware

CPU_RANKS: Final = 2
MOST_TOKENS: Final = 32_768
"""Token limit beyond which a GPU gains nothing any more."""
CPU_TOKENS: Final = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Training keys that decide speed and memory, and what is to be said of them."""

    keys: Mapping[str, Any]
    reason: str


def layout(
    shape: ModelShape | None, lengths: Lengths, hardware: Hardware, *, batch_size: int, longest: int, lora: bool
) -> Layout:
    """Return the layout of trials with batches up to ``batch_size``.

    Raises:
        InputError: the model does not fit the devices in any way that is known.
    """
    keys: dict[str, Any]
    if not hardware.is_gpu:
        ranks = min(CPU_RANKS, hardware.count)
        keys = {"engine": "fsdp" if ranks > 1 else "single", "ranks": ranks, "precision": "fp32"}
        return Layout(
            keys=keys | {"max_tokens_per_rank": max(CPU_TOKENS, longest)}, reason="CPU processes: there is no GPU here"
        )
    if shape is None or hardware.device.memory is None:
        keys = {"engine": "fsdp", "ranks": hardware.count, "precision": "bf16"}
        return Layout(keys=keys | {"max_tokens_per_rank": max(8192, longest)}, reason="the model's sizes are not known")
    for keys in _layouts(hardware.count):
        for tokens in _tokens(longest):
            train = TrainConfig(
                batch_size=batch_size,
                learning_rate=1.0,
                max_tokens_per_rank=tokens,
                lora=LoraConfig() if lora else None,
                **keys,
            )
            load = batches(lengths, batch_size=batch_size, ranks=train.ranks, max_tokens=tokens, steps=100).largest
            need = estimate(shape, train, load).device
            if need <= hardware.device.memory:
                share = need / hardware.device.memory
                reason = f"by calculation {share:.0%} of a {hardware.device.name}'s memory"
                return Layout(keys={**keys, "max_tokens_per_rank": tokens}, reason=reason)
    raise InputError(
        f"a model of {count(shape.parameters)} weights does not fit {hardware.count} x {hardware.device.name}",
        where="--gpus",
        got=hardware.count,
        mend="take more GPUs, or --lora",
    )


def _layouts(gpus: int) -> Iterator[dict[str, Any]]:
    """Yield layouts from the fastest to the most sparing: few ranks first, so that several trials run at a time."""
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64, 128, 256) if size <= gpus]
    for checkpointed in (False, True):
        for ranks in sizes:
            keys: dict[str, Any] = {"engine": "fsdp" if ranks > 1 else "single", "ranks": ranks, "precision": "bf16"}
            yield keys | ({"activation_checkpointing": True} if checkpointed else {})


def _tokens(longest: int) -> Iterator[int]:
    limit = MOST_TOKENS
    while limit >= 2048 and limit >= longest:
        yield limit
        limit //= 2
    if longest > 2048:
        yield longest
