"""What a step leaves behind besides its loss: norms of single micro-batches, of kinds of parameters, of the update.

All of it stays on the device, as a few fp64 numbers that travel with the loss: no wait for the device is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.hooks import RemovableHandle

from sweeper.core.milestones import Milestones
from trials.batch import MicroBatch
from trials.packing import Rows
from trials.signals import GROUPS

PROBE_SHARE: Final = 8
"""One step of so many has its micro-batches mixed and their norms taken: often enough for a mean at each
milestone, seldom enough that a step's own time decides."""
DEAR_PROBE_SHARE: Final = 32
"""The same where a probed step costs much more: a batch of one micro-batch is split, or padded rows are mixed."""


class PartProbe:
    """Squared gradient norms of one rank's micro-batches, read while backward makes them.

    A hook on each parameter sees its gradient before it is added to the others', whatever the engine then does with
    it: nothing is kept, nothing is copied, and no rank waits for another.
    """

    def __init__(self, device: torch.device, loss_scale: float) -> None:
        """``loss_scale`` is what the engine multiplies a loss by."""
        self._device = device
        self._loss_scale = loss_scale
        self._is_on = False
        self._watched: list[Tensor] = []
        self._handles: list[RemovableHandle] = []
        self._norms: list[Tensor] = []
        self._parts = 0
        self._square: Tensor | float = 0.0

    def watch(self, parameters: Iterable[Tensor]) -> None:
        """Read the gradients of these leaf tensors in the steps that are measured."""
        self._watched += [parameter for parameter in parameters if parameter.requires_grad]
        self._attach()

    def watch_gathered(self, units: Iterable[nn.Module]) -> None:
        """Read gradients of whole parameters that exist only once a unit of FSDP has gathered them."""
        seen: set[int] = set()

        def first_forward(unit: nn.Module, _: object) -> None:
            handles.pop(unit).remove()
            # Those of units inside are not gathered yet; FSDP makes each gathered parameter once and keeps it.
            gathered = {id(p): p for p in unit.parameters() if not isinstance(p, DTensor) and id(p) not in seen}
            seen.update(gathered)
            self.watch(gathered.values())

        handles = {unit: unit.register_forward_pre_hook(first_forward) for unit in units}

    def begin(self, is_on: bool) -> None:
        """Begin an optimizer step whose micro-batches are measured or not."""
        self._is_on = is_on
        self._parts, self._square = 0, 0.0
        self._attach()

    @contextmanager
    def part(self, batch: MicroBatch, loss_tokens: int) -> Iterator[None]:
        """Measure the backward pass within; ``loss_tokens`` counts the whole effective batch. A dummy is no part."""
        self._norms = []
        yield
        if self._norms and batch.num_loss_tokens:
            square = torch.stack(self._norms).double().square().sum()
            # |g / t|^2 weighted by t / T, where backward has left g / T times the engine's own scale.
            self._square = self._square + square * (loss_tokens / batch.num_loss_tokens / self._loss_scale**2)
            self._parts += 1
        self._norms = []

    def totals(self) -> Tensor:
        """Return number and weighted squared norms of this rank's parts, [2], fp64, to be summed over ranks."""
        parts = torch.full((2,), float(self._parts), dtype=torch.float64, device=self._device)
        parts[1] = self._square
        return parts

    def _attach(self) -> None:
        # Only in steps that are measured: a hook costs every micro-batch a call per parameter.
        if self._is_on:
            for parameter in self._watched[len(self._handles) :]:
                self._handles.append(parameter.register_hook(self._see))  # type: ignore[no-untyped-call]
        else:
            while self._handles:
                self._handles.pop().remove()

    def _see(self, gradient: Tensor) -> None:
        self._norms.append(torch.linalg.vector_norm(gradient.detach(), dtype=torch.float32))


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an optimizer step lies between two milestones."""

    left: int
    """Steps to the milestone, this one included."""
    of: int
    """Steps between the two."""

    @property
    def is_last(self) -> bool:
        return self.left == 1

    def is_among_last(self, share: int) -> bool:
        """Return whether it is among the last steps, one of ``share``, at least one."""
        return self.left <= -(-self.of // share)


def place_of(step: int, *, batch_size: int, milestones: Milestones, total_steps: int) -> Place:
    """Return the place of a 0-based optimizer step; a window ends with the first step at or past its milestone."""
    passed = milestones.passed(step * batch_size)
    first = -(-milestones.samples[passed - 1] // batch_size) if passed else 0
    end = milestones.samples[min(passed, len(milestones.samples) - 1)]
    # No window is empty: past the last milestone, each step is one.
    last = min(max(-(-end // batch_size), step + 1), total_steps)
    return Place(left=last - step, of=last - first)


def probe_plan(
    lengths: NDArray[np.int64], planner: Callable[..., list[list[Rows]]], place: Place, *, is_padded: bool
) -> list[list[Rows]] | None:
    """Return the micro-batches of a step that is probed, each a random part of the batch; None where it is not.

    Dealt out by length, a part's gradient differs from the others' by its samples' lengths, and a noise scale from two
    or three such parts came out several times too large. A batch of a single micro-batch is cut into random halves.

    Args:
        planner: ``packing.plan`` with its limits set.
    """
    if not place.is_among_last(DEAR_PROBE_SHARE if is_padded else PROBE_SHARE):
        return None
    planned = planner(lengths, mixed=True)
    if len(planned) > 1 or len(planned[0]) > 1:
        return planned
    if not place.is_among_last(DEAR_PROBE_SHARE) or len(lengths) < 2:
        return None
    half = len(lengths) // 2
    second = planner(lengths[half:], mixed=True)
    return planner(lengths[:half], mixed=True) + [
        [replace(rows, samples=rows.samples + half) for rows in micro_batch] for micro_batch in second
    ]


def group_squares(groups: Sequence[str], norms: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return the squared norm of each of ``GROUPS`` from the norms of tensors and their groups, [group], fp64.

    Summed group by group: an indexed addition has no fixed order on a GPU, and a resumed trial then other last bits.
    """
    zero = torch.zeros((), dtype=torch.float64, device=device)
    if not norms:
        return zero.repeat(len(GROUPS))
    order = sorted(range(len(groups)), key=lambda index: GROUPS.index(groups[index]))
    squares = torch.stack([norms[index] for index in order]).double().square().to(device)
    parts = torch.split(squares, [groups.count(group) for group in GROUPS])
    return torch.stack([part.sum() if len(part) else zero for part in parts])


@torch.no_grad()
def update_squares(optimizer: torch.optim.Optimizer, device: torch.device) -> Tensor:
    """Return squared norms of AdamW's last change of this rank's weights and of the weights before it, [2], fp64.

    Made from the moments, one tensor at a time, where copying all weights before the step would need their memory. Same
    as the difference to fp32 rounding of the weights.
    """
    squares = torch.zeros(2, dtype=torch.float64, device=device)
    groups = {id(shard): group for group in optimizer.param_groups for shard in group["params"]}
    default = optimizer.param_groups[0]
    for shard, state in optimizer.state.items():
        if "exp_avg" not in state:
            continue
        group = groups.get(id(shard), default)
        beta1, beta2 = group["betas"]
        step = torch.as_tensor(state["step"]).double()
        correction1, correction2 = ((1 - beta**step).to(shard.device, shard.dtype) for beta in (beta1, beta2))
        change = state["exp_avg_sq"].div(correction2).sqrt_().add_(group["eps"])
        change = torch.div(state["exp_avg"], change, out=change).mul_(group["lr"] / correction1)
        decay = group["lr"] * group["weight_decay"]
        before = change.add(shard).div_(1 - decay)
        both = torch._foreach_norm([change.add_(before, alpha=decay), before])
        squares += torch.stack(both).double().square().to(device)
    return squares
