"""A plan held against a few real steps on the hardware at hand, and corrected by them.

The cells that are probed are the extreme ones: the largest in memory, and those of the smallest and the largest batch.
A batch of many micro-batches is cut to three, which fill the memory as the whole batch does and take seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sweeper.core.accelerators import GIB, by_driver_name
from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import encode
from sweeper.core.errors import InputError, RecordError
from sweeper.core.figures import count, number, plural
from sweeper.core.memory import estimate
from sweeper.core.memory_terms import Load
from sweeper.core.roofline import Speed, Work, fit
from sweeper.core.space import Cell
from sweeper.planned import Facts, facts_key, offline_environment, plan_cells
from sweeper.planning.cells import CellPlan, CellPlanner
from sweeper.planning.hardware import Hardware, gpus_here

MICRO_BATCHES: Final = 3
"""Of a probed batch at most: the first meets no gradients and the second does, and the rest are like the second."""
STEPS: Final = 2
"""Optimizer steps that are timed, after one that is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCosts:
    """What a few steps took."""

    steps: int
    seconds: float
    flops: float
    """Model FLOPs of the timed steps, all ranks together."""
    peak_memory_bytes: int
    """Of the fullest rank: of its GPU's allocator, or, on a CPU, of its whole process."""
    load: Load
    max_tokens_per_rank: int
    """Lower than asked for where that did not fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """One cell whose steps were run."""

    cell: str
    batch_size: int
    """Of the probe; the cell's own may be larger."""
    costs: StepCosts
    calculated_bytes: float
    """Memory by calculation for the very micro-batches that ran, without margin."""

    @property
    def memory_ratio(self) -> float:
        """Measured over calculated memory."""
        return self.costs.peak_memory_bytes / self.calculated_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """What the probes say of the plan."""

    speed: Speed
    memory: float
    """Factor on calculated memory: that of the worst probe. 1 on a CPU, whose processes hold much besides."""
    probes: tuple[Probed, ...]
    notes: tuple[str, ...]


RunSteps = Callable[[TrialConfig], StepCosts]


def refuse_elsewhere(gpu: str | None, where: Hardware) -> None:
    """Raise InputError where the hardware of the plan is not that of this machine."""
    here = gpus_here()
    names = sorted({found.name if (found := by_driver_name(name)) else name for name, _ in here})
    has = f"{len(here)} x {', '.join(names)}" if here else "no GPU"
    if where.is_gpu and not here:
        mend = "leave out --probe, or --gpu and --gpus to probe the CPU"
        raise InputError("this machine has no GPU to probe", where="--probe", got=gpu or where.device.name, mend=mend)
    if gpu is not None and where.is_gpu and where.device.name not in names:
        raise InputError(f"this machine has {has}", where="--probe", got=gpu, mend="leave out --gpu, or --probe")


def correct(
    plans: Sequence[CellPlan], planner: CellPlanner, where: Hardware, assumed: Speed, run: RunSteps | None = None
) -> Correction:
    """Run the extreme cells' first steps, and return what they say of all cells.

    Args:
        plans: all cells, as planned without a probe.
        planner: the one that planned them.
        where: the hardware of this machine.
        assumed: the speed that the plans assume.
        run: takes the steps of a config; by default in processes of their own.

    Raises:
        InputError: no cell can be run here.
        RecordError: the steps of a cell failed, e.g. for want of memory.
    """
    run = run or run_steps
    probes: list[Probed] = []
    observed: list[tuple[Work, float]] = []
    for each in extreme_cells(plans, len(gpus_here()) or where.count):
        config = shortened(each)
        costs = run(config)
        probes.append(_probed(each, config, costs, planner, where))
        observed.append((_work_done(each, config, costs, planner), costs.seconds))
    speed = replace(fit(observed, assumed, least=2), trials=0, probes=len(probes))
    memory = max(each.memory_ratio for each in probes) if where.is_gpu else 1.0
    return Correction(speed=speed, memory=memory, probes=tuple(probes), notes=tuple(_note(p, where) for p in probes))


def extreme_cells(plans: Sequence[CellPlan], devices: int) -> list[CellPlan]:
    """Return the cells to probe, none twice; raises InputError where none can be run on so many devices."""
    usable = _usable(plans, devices)
    if not usable:
        rule = "no cell can be run here: each is infeasible, needs more ranks, or is a trainer of your own"
        raise InputError(rule, where="--probe", got=plural(devices, "device"))

    def batch(each: CellPlan) -> int:
        return each.planned.cell.config.train.batch_size

    found = [max(usable, key=_memory), min(usable, key=batch), max(usable, key=batch)]
    return list({fingerprint(shortened(each)): each for each in found}.values())


def try_largest(plans: Sequence[CellPlan], run: RunSteps | None = None) -> str:
    """Run the fullest micro-batches that the plan says will fit, and return in one line whether they did.

    ``plans`` are the corrected ones; of the cells that can be run here the one that needs most memory is taken.
    """
    run = run or run_steps
    usable = [each for each in _usable(plans, len(gpus_here()) or 1) if each.choice is not None]
    if not usable:
        return ""
    each = max(usable, key=_memory)
    assert each.choice is not None
    asked = each.choice.max_tokens_per_rank
    config = shortened(each, parts=each.choice.accumulation)
    costs = run(replace(config, train=replace(config.train, max_tokens_per_rank=asked)))
    name = each.planned.cell.name
    if costs.max_tokens_per_rank == asked:
        return f"train.max_tokens_per_rank: {asked} was run with {name} and fits"
    return f"train.max_tokens_per_rank: {asked} does not fit {name}; {costs.max_tokens_per_rank} does"


def shortened(each: CellPlan, parts: int | None = None) -> TrialConfig:
    """Return the cell's config with at most ``MICRO_BATCHES`` of the ``parts`` of its batch, and without warmup."""
    config = each.planned.cell.config
    train = replace(config.train, warmup_steps=None, warmup_samples=None, warmup_ratio=None, schedule="constant")
    parts = parts or (each.batches.micro_batches if each.batches else 1)
    if parts > MICRO_BATCHES:
        train = replace(train, batch_size=max(train.ranks, train.batch_size * MICRO_BATCHES // parts))
    return replace(config, train=replace(train, learning_rate=1e-9))


def run_steps(config: TrialConfig) -> StepCosts:
    """Take a few steps of a trial in processes of their own.

    Raises:
        InputError: the model or data cannot be used.
        RecordError: the steps failed; the message is theirs.
    """
    environment = os.environ | offline_environment(config.model, config.data)
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "config.json", Path(folder) / "costs.json"
        file.write_text(json.dumps(encode(config)), encoding="utf-8")
        command = [sys.executable, "-m", "trials", "steps", str(file), "--steps", str(STEPS), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if not out.exists():
            said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
            told = said[0] if said else f"ended with code {done.returncode}: {done.stderr.strip()[-300:]}"
            raise RecordError(f"the probe of batch {config.train.batch_size} failed: {told}")
        return _costs(json.loads(out.read_text(encoding="utf-8")))


def _usable(plans: Sequence[CellPlan], devices: int) -> list[CellPlan]:
    fit_here = [each for each in plans if each.infeasible is None and each.memory and each.gpus <= devices]
    return [each for each in fit_here if each.planned.cell.config.trial is None]


def _memory(each: CellPlan) -> float:
    return each.memory.device if each.memory else 0.0


def _costs(plain: dict[str, Any]) -> StepCosts:
    load = Load(**{name: plain[name] for name in ("tokens", "loss_tokens", "micro_batches")})
    names = ("steps", "seconds", "flops", "peak_memory_bytes", "max_tokens_per_rank")
    return StepCosts(load=load, **{name: plain[name] for name in names})


def _probed(each: CellPlan, config: TrialConfig, costs: StepCosts, planner: CellPlanner, where: Hardware) -> Probed:
    shape, _ = planner.read(each.planned.facts)
    assert shape is not None
    found = estimate(shape, config.train, costs.load, "cuda" if where.is_gpu else "cpu")
    return Probed(
        cell=each.planned.cell.name,
        batch_size=config.train.batch_size,
        costs=costs,
        calculated_bytes=found.device - found.margin,
    )


def _work_done(each: CellPlan, config: TrialConfig, costs: StepCosts, planner: CellPlanner) -> Work:
    """Return the work of the steps that were timed, by what they really computed."""
    facts: Facts = each.planned.facts
    cell = Cell(index=0, axes={}, config=config, fingerprint=fingerprint(config), name=each.planned.cell.name)
    planned = plan_cells([cell], {facts_key(config): facts})[0]
    whole = planner.work_alone(planned, facts)
    assert whole is not None
    share = costs.steps / planned.derived.total_steps
    return replace(
        whole,
        compute_s=whole.compute_s * costs.flops / whole.flops,
        fixed_s=whole.fixed_s * share,
        flops=costs.flops,
        evaluation_s=0.0,
    )


def _note(probed: Probed, where: Hardware) -> str:
    costs = probed.costs
    said = (
        f"probed {probed.cell}: {number(costs.seconds / costs.steps, 3)} s for a step of {count(probed.batch_size)} "
        f"samples, {costs.load.micro_batches} x up to {count(costs.load.tokens)} tokens a rank"
    )
    if not where.is_gpu:
        return said
    said += (
        f"; {costs.peak_memory_bytes / GIB:.2f} GiB allocated where {probed.calculated_bytes / GIB:.2f} were calculated"
    )
    return said
