"""What a whole sweep costs: the sum of its cells, their schedule on the devices at hand, and what pruning may save."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.core.space import SearchSpace
from sweeper.planning.cells import CellPlan
from sweeper.planning.hardware import Hardware
from sweeper.planning.saving import Saving, saving


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPlan:
    """The sum of a sweep. Hours and money are of the full grid; ``cheapest`` and ``dearest`` are with pruning."""

    cells: int
    runnable: int
    samples: int
    at_once: int
    """Trials that run at the same time."""
    gpu_hours: float
    hours: float
    """From start to end of the full grid, nothing lost between trials."""
    longest: str
    """Name of the cell that takes longest; no sweep ends before it."""
    longest_hours: float
    saving: Saving | None
    price: float | None
    """Of one GPU-hour."""
    checkpoint_bytes: float
    """On disk at once; 0 where no checkpoints were asked for."""
    host_bytes: float
    """Of the CPU's memory that all trials running at once hold together."""

    @property
    def cheapest(self) -> float:
        return self.gpu_hours * (1 - (self.saving.high if self.saving else 0.0))

    @property
    def dearest(self) -> float:
        return self.gpu_hours * (1 - (self.saving.low if self.saving else 0.0))


def sweep_plan(
    space: SearchSpace,
    cells: Sequence[CellPlan],
    hardware: Hardware,
    *,
    price: float | None,
    like: Sequence[str] = (),
) -> SweepPlan:
    """Return the sums; raises InputError where ``like`` cannot be replayed."""
    runnable = [cell for cell in cells if cell.infeasible is None]
    units = [cell.gpus if hardware.is_gpu else _cpus(space, cell) for cell in runnable]
    at_once = max(1, int(hardware.count / max(units, default=1.0) + 1e-9))
    longest = max(runnable, key=lambda cell: cell.seconds, default=None)
    trials = min(at_once, len(runnable))
    written = max((cell.checkpoint_bytes for cell in runnable), default=0.0)
    held = max((_host(space, cell) for cell in runnable), default=0.0)
    return SweepPlan(
        cells=len(cells),
        runnable=len(runnable),
        samples=sum(cell.planned.derived.planned_samples for cell in runnable),
        at_once=at_once,
        gpu_hours=sum(cell.gpu_hours for cell in runnable),
        hours=makespan([cell.seconds for cell in runnable], at_once) / 3600,
        longest=longest.planned.cell.name if longest else "",
        longest_hours=longest.seconds / 3600 if longest else 0.0,
        saving=saving(
            space.pruner,
            cells=len(runnable),
            calibration=space.calibration,
            workers=trials,
            hold_back=space.hold_back,
            like=like,
            search=space.search,
        ),
        price=price,
        checkpoint_bytes=written * trials if space.resources.checkpoint_every else 0.0,
        host_bytes=held * trials,
    )


def makespan(seconds: Sequence[float], at_once: int) -> float:
    """Return when the last of the trials ends, each started as soon as one before it has ended."""
    ends = [0.0] * max(1, min(at_once, len(seconds)))
    for each in seconds:
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def _cpus(space: SearchSpace, cell: CellPlan) -> float:
    return cell.planned.cell.config.train.ranks * space.resources.cpus_per_rank


def _host(space: SearchSpace, cell: CellPlan) -> float:
    """Return what one trial holds of the CPU's memory: base weights once a node, what its ranks offload, and a
    checkpoint's copy while it is written."""
    ranks = cell.planned.cell.config.train.ranks
    nodes = space.resources.nodes_per_trial or 1
    held = cell.memory.base * nodes + cell.memory.host * ranks if cell.memory else 0.0
    return held + (cell.checkpoint_bytes if space.resources.checkpoint_every else 0.0)
