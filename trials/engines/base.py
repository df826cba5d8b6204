"""What a trial asks of an engine."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.distributed import ProcessGroup

from sweeper.core.config import TrainConfig
from trials.batch import MicroBatch
from trials.flops import Work
from trials.model import Decode
from trials.packing import Layout
from trials.probe import PartProbe

BYTES_PER_NAME = 4096
"""What a checkpoint takes for one tensor of one rank beside its numbers: a header and an entry in the list of all."""


class Engine(Protocol):
    """One rank's part of a model in training. Every method is called on all ranks of the gang in the same order."""

    layout: Layout
    work: Work | None
    """What the model's FLOPs follow from; None where its config does not tell."""
    probe: PartProbe
    """Reads the gradients of single micro-batches, in the steps that it was begun for."""

    def reset(self, train: TrainConfig) -> None:
        """Put the base weights back, adapters fresh, and forget the optimizer's state: the beginning of a trial."""

    def backward(self, batch: MicroBatch, *, loss_tokens: int, is_last: bool) -> Tensor:
        """Add a micro-batch's gradient of (summed cross-entropy / ``loss_tokens``).

        ``loss_tokens`` counts the whole effective batch, all ranks; ``is_last`` is its last micro-batch. Returns this
        rank's summed cross-entropy, fp64, on the device.
        """

    def step(self, loss_sum: Tensor, *, learning_rate: float, clip_norm: float, measure_update: bool = False) -> Tensor:
        """Clip, update the weights, and drop the gradients.

        Returns the numbers of ``signals.StepTotals``, fp64, on the device: ``loss_sum`` summed over ranks, the global
        gradient norm before clipping, and what signals are made from. Those of the update are NaN where it is not to be
        measured, as is whatever cannot be had. Non-finite values come back as they are. Whether the weights take them
        too is up to the engine: the trial is to be ended.
        """

    def recover(self, steps_done: int) -> None:
        """Be as after the last optimizer step, once an exception has ended ``backward`` on all ranks at the same place.

        Raises:
            OutOfMemory: this engine cannot.
        """

    def logits(self, batch: MicroBatch) -> Tensor:
        """Return the logits [N, vocabulary] at the kept slots, without gradient."""

    def decoding(self) -> AbstractContextManager[Decode]:
        """Give a function that runs the model with a cache, see ``trials.model.Decode``; within the block, all ranks
        call it equally often and call nothing else of the engine."""

    @property
    def state_bytes(self) -> int:
        """What ``save`` writes, all ranks together, at most."""

    def save(self, folder: Path, group: ProcessGroup | None) -> Future[Any] | None:
        """Write weights and optimizer state into an empty folder that all ranks see.

        Returns the end of the writing where it goes on in the background, over ``group``: the state is copied by then,
        and training may go on. None where all is written. On rank 0 the end is that of all ranks.
        """

    def load(self, folder: Path, steps_done: int) -> None:
        """Put back what ``save`` wrote after ``steps_done`` optimizer steps, on any number of ranks."""

    def full_weights(self) -> dict[str, Tensor]:
        """Return all weights unsharded on the CPU, on rank 0; an empty dict elsewhere.

        Adapters stand beside the weights they belong to: see ``trials.lora.merge``.
        """
