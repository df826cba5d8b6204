"""Running out of device memory in a micro-batch: all ranks stop at the same place, so that they can go on together.

The hard part is a rank that fails alone. Its peers are, or soon will be, inside a collective that it will never join,
and no library call gets them out of it. So no rank may enter a collective before all ranks have said that they got
there: in a *guarded* micro-batch every collective of the engine, whichever engine it is, is preceded by a reduction of
one number over the CPUs. A rank that has run out of memory joins it once, with bad news, and everybody leaves the
micro-batch between the same two collectives. The process group stays whole.

What was rejected: probing the largest micro-batch at the start, because identical shapes do not make ranks fail
together (a neighbour on one GPU is enough); going on with dummy work from where it failed, because autograd cannot be
entered in the middle; tearing the process group down, because on NCCL that takes the engines with it.

A guarded micro-batch costs a reduction of about 0.1 ms per collective and a Python call per operator. So only those
are guarded that are larger, in at least one way that costs memory, than any that has passed before: a few at the
beginning, hardly any later. Memory that runs out in any other is no matter of the micro-batch's size; then the rank
raises ``OutOfMemory`` and whoever runs the gang ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sweeper.core.errors import OutOfMemory
from trials.gang import Gang
from trials.packing import Rows

Size = tuple[int, ...]
"""What a micro-batch's memory grows with, each number on its own."""


class MemoryShortage(Exception):
    """A micro-batch did not fit on at least one rank; raised on all ranks, between the same two collectives."""


class MemoryGuard:
    """Runs micro-batches of one trial; on all ranks in the same order."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._passed: list[Size] = []

    def run(self, size: Size, work: Callable[[], Tensor]) -> Tensor:
        """Return what ``work`` returns; ``size`` must be the same on all ranks.

        Raises:
            MemoryShortage: it ran out of memory on some rank.
            OutOfMemory: it did so where a micro-batch at least as large had passed; this rank alone knows of it.
        """
        if self._gang.world_size == 1:
            return self._watched(work)
        if any(all(mine <= theirs for mine, theirs in zip(size, other, strict=True)) for other in self._passed):
            with no_way_out("a micro-batch no larger than one that fitted before"):
                return work()
        result = self._guarded(work)
        self._passed = [other for other in self._passed if any(a > b for a, b in zip(other, size, strict=True))]
        self._passed.append(size)
        return result

    def _watched(self, work: Callable[[], Tensor]) -> Tensor:
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: the error's trace holds every tensor of the micro-batch.
        raise MemoryShortage

    def _guarded(self, work: Callable[[], Tensor]) -> Tensor:
        mode = _AgreeFirst(self._gang)
        result = None
        try:
            with mode:
                result = work()
        except Exception as error:
            if not (mode.heard_bad_news or is_out_of_memory(error)):
                raise
        if mode.heard_bad_news or self._gang.any(result is None) or result is None:
            raise MemoryShortage
        return result


class _AgreeFirst(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator, the collectives of all engines among them."""

    def __init__(self, gang: Gang) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gang = gang
        self.heard_bad_news = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d" and self._gang.any(False):
            self.heard_bad_news = True
            raise MemoryShortage
        return func(*args, **(kwargs or {}))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocator, of a GPU or of the CPU, has refused."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's CPU allocator has no type of its own.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


@contextmanager
def no_way_out(place: str) -> Iterator[None]:
    """Turn running out of memory into ``OutOfMemory``, where a smaller micro-batch would not help or comes too late."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory in {place} ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "take more ranks, or set train.activation_checkpointing, train.cpu_offload or train.lora"
        ) from error


def size_of(ranks: Sequence[Rows], loss_counts: NDArray[Any], *, index: int, step: int) -> Size:
    """Return a micro-batch's size, the largest over its ranks.

    Slots (activations), slots times row width (attention scores), loss tokens (logits), whether it meets gradients of
    micro-batches before it, and whether it meets optimizer state, which some engines make in their first step.
    """
    slots = max(rows.num_rows * rows.width for rows in ranks)
    scores = max(rows.num_rows * rows.width**2 for rows in ranks)
    loss_tokens = max(int(loss_counts[rows.samples].sum()) for rows in ranks)
    return slots, scores, loss_tokens, int(index > 0), int(step > 0)


def smaller_limit(max_tokens: int, ranks: Sequence[Rows]) -> int:
    """Return the halved token limit after a micro-batch, given as the rows of each rank, did not fit.

    It is halved until that micro-batch is above it: before, the plan would stay as it is.

    Raises:
        OutOfMemory: the micro-batch held one sample on each rank.
    """
    slots = max(rows.num_rows * rows.width for rows in ranks)
    if all(len(rows.samples) <= 1 for rows in ranks):
        raise OutOfMemory(
            f"out of memory with one sample of {slots} tokens per micro-batch (token limit {max_tokens}); take more "
            "ranks, shorten data.max_length, or set train.activation_checkpointing, train.cpu_offload or train.lora"
        )
    max_tokens //= 2
    while max_tokens >= slots:
        max_tokens //= 2
    return max_tokens
