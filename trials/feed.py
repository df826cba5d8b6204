"""What each optimizer step is fed, made ready while the step before is still running.

On a GPU the host is idle from the moment the step's work is queued until its loss comes back; that is when the next
step is planned. No thread is needed, and none competes with the loop for the interpreter. On a CPU nothing can be
hidden, and a step's data takes less than a hundredth of its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from trials.batch import MicroBatch, micro_batch
from trials.data import TokenSet
from trials.gang import Gang
from trials.order import Order
from trials.packing import Layout, Rows, plan
from trials.probe import Place, probe_plan


@dataclass(frozen=True, slots=True)
class StepData:
    """One effective batch, the same on every rank."""

    samples: NDArray[np.int64]
    """Positions in the training set, [batch_size]."""
    lengths: NDArray[np.int64]
    """Tokens of each, [batch_size]."""
    loss_counts: NDArray[np.int32]
    """Loss tokens of each, [batch_size]. All ranks know them, so their sum needs no exchange."""
    rows: list[list[Rows]]
    """What every rank computes, [micro-batch][rank]."""
    is_probed: bool
    """Whether each micro-batch is a random part of the batch, to be measured."""


class Feed:
    """One rank's data, step by step."""

    def __init__(
        self,
        train: TokenSet,
        order: Order,
        batch_size: int,
        gang: Gang,
        layout: Layout,
        place: Callable[[int], Place],
    ) -> None:
        """``place`` tells where a step lies between milestones, which decides whether it is probed."""
        self._train = train
        self._lengths = train.lengths
        self._order = order
        self._batch_size = batch_size
        self._gang = gang
        self._layout = layout
        self._place = place
        self._ready: tuple[tuple[int, int], StepData] | None = None
        self.waited_s = 0.0
        """Seconds in which data was made and the device had nothing to do."""

    def prepare(self, step: int, max_tokens: int) -> None:
        """Make a 0-based step's data ready for ``take``."""
        if self._ready is None or self._ready[0] != (step, max_tokens):
            with self._timed():
                self._ready = (step, max_tokens), self._make(step, max_tokens)

    def take(self, step: int, max_tokens: int) -> StepData:
        """Return a 0-based step's data in micro-batches of at most ``max_tokens`` slots a rank, any number of times."""
        self.prepare(step, max_tokens)
        assert self._ready is not None
        return self._ready[1]

    def micro_batch(self, data: StepData, index: int) -> MicroBatch:
        """Return this rank's part of a micro-batch, on its device."""
        with self._timed():
            rows = data.rows[index][self._gang.rank]
            return micro_batch(self._train, data.samples, rows).to(self._gang.device)

    def _make(self, step: int, max_tokens: int) -> StepData:
        samples = self._order.batch(step, self._batch_size)
        lengths = self._lengths[samples]
        planner = partial(plan, max_tokens=max_tokens, ranks=self._gang.world_size, layout=self._layout)
        probed = probe_plan(lengths - 1, planner, self._place(step), is_padded=self._layout == "padded")
        rows = probed or planner(lengths - 1)
        return StepData(samples, lengths, self._train.loss_counts[samples], rows, probed is not None)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        if not _is_busy(self._gang.device):
            self.waited_s += time.perf_counter() - began


def _is_busy(device: torch.device) -> bool:
    """Tell whether a GPU still has work to do; a CPU does none while this is asked."""
    return device.type == "cuda" and not torch.cuda.current_stream(device).query()
