"""From a search space to its plan, as the command line and Python both ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.core.errors import InputError
from sweeper.core.foreign_code import foreign_code
from sweeper.core.over_long import over_long
from sweeper.core.roofline import Speed
from sweeper.core.search import LocalSearch
from sweeper.core.shape import shape_of
from sweeper.core.space import Cell, SearchSpace
from sweeper.planned import Facts, find_facts, plan_cells
from sweeper.planning.cells import CellPlan, CellPlanner
from sweeper.planning.hardware import Hardware, hardware
from sweeper.planning.probe import Correction, Probed, correct, refuse_elsewhere, try_largest
from sweeper.planning.totals import SweepPlan, sweep_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """All that was calculated of a sweep."""

    cells: tuple[CellPlan, ...]
    total: SweepPlan
    hardware: Hardware
    speed: Speed
    notes: tuple[str, ...]
    """What is to be said once for each model and data set."""
    probes: tuple[Probed, ...] = ()
    """Cells of which a few steps were run."""


def make_plan(
    space: SearchSpace,
    cells: Sequence[Cell],
    *,
    gpu: str | None = None,
    gpus: int | None = None,
    gpu_memory_gib: float | None = None,
    price: float | None = None,
    earlier: str | None = None,
    like: Sequence[str] = (),
    probe: bool = False,
) -> Planned:
    """Return what each cell of a search space needs, and the sweep in all; the arguments are those of ``sweeper.plan``.

    Raises:
        InputError: the model, the data or an argument cannot be used.
        RecordError: a probe was asked for, and its steps failed.
    """
    if price is not None and price < 0:
        raise InputError("must be at least 0", where="--price", got=price)
    where = hardware(gpu, gpu_memory_gib, gpus)
    if probe:
        _refuse_probe(gpu, where, earlier)
    facts = find_facts(cells, on_paper=not probe)
    return plan_from(space, cells, facts, where=where, price=price, earlier=earlier, like=like, probe=probe)


def plan_from(
    space: SearchSpace,
    cells: Sequence[Cell],
    facts: Mapping[str, Facts],
    *,
    where: Hardware | None = None,
    price: float | None = None,
    earlier: str | None = None,
    like: Sequence[str] = (),
    probe: bool = False,
) -> Planned:
    """Return the plan from what is known of model and data; ``where`` None means this machine. See ``make_plan``."""
    where = hardware(None, None, None) if where is None else where
    planned = plan_cells(cells, facts)
    per_rank = _gpus_per_rank(space, where)
    speed = _speed(earlier, where, per_rank)
    planner = CellPlanner(where, speed, gpus_per_rank=per_rank)
    plans = tuple(planner.plan(each, each.facts) for each in planned)
    found = correct(plans, planner, where, speed) if probe else None
    if found is not None:
        planner = CellPlanner(where, found.speed, gpus_per_rank=per_rank, memory_factor=found.memory)
        plans = tuple(planner.plan(each, each.facts) for each in planned)
    code = foreign_code(each.cell.config for each in planned)
    notes = (_searches(space, plans), code, *_notes(facts.values()), *_probe_notes(found, plans, where))
    return Planned(
        cells=plans,
        total=sweep_plan(space, plans, where, price=price, like=like),
        hardware=where,
        speed=found.speed if found else speed,
        notes=tuple(note for note in notes if note),
        probes=found.probes if found else (),
    )


def _refuse_probe(gpu: str | None, where: Hardware, earlier: str | None) -> None:
    refuse_elsewhere(gpu, where)
    if earlier is not None:
        raise InputError("the speed is either learned or probed", where="--probe", mend="leave out --from")


def _speed(earlier: str | None, where: Hardware, per_rank: float) -> Speed:
    """Return the speed learned from an earlier sweep, or what is assumed of the device."""
    assumed = Speed(compute=1 / where.device.efficiency)
    if earlier is None:
        return assumed
    from sweeper.planning.history import learned_speed

    return learned_speed(earlier, where, assumed, gpus_per_rank=per_rank)


def _probe_notes(found: Correction | None, plans: Sequence[CellPlan], where: Hardware) -> tuple[str, ...]:
    if found is None:
        return ()
    return (*found.notes, try_largest(plans) if where.is_gpu else "")


def _gpus_per_rank(space: SearchSpace, where: Hardware) -> float:
    """Return the devices that one rank counts for; CPU ranks count as one each, so that their hours can be summed."""
    asked = space.resources.gpus_per_rank
    return asked if where.is_gpu and asked is not None else 1.0


def _searches(space: SearchSpace, plans: Sequence[CellPlan]) -> str:
    """Return where a local search begins; empty where all cells are run."""
    cells = {each.planned.cell.name: each.planned.cell.axes for each in plans if each.infeasible is None}
    if not space.search.is_local or not cells:
        return ""
    first = LocalSearch(cells, start=space.search.start).first[0]
    most = f", {space.search.budget} cells at most" if space.search.budget is not None else ""
    return f"local search begins at {first}{most}; cells that it does not come to are never started"


def _notes(facts: Iterable[Mapping[str, Any]]) -> list[str]:
    notes = set()
    for found in facts:
        notes.add(over_long(found))
        shape = shape_of(found.get("model", {}).get("config", {}))
        if shape is not None and not shape.with_parameters(found["model"].get("parameters")).is_exact:
            notes.add(f"memory of a {shape.family} model is that of a Llama of its sizes")
        lacks = " and no ".join(found.get("model", {}).get("lacks", ()))
        if lacks:
            tokens = "; lengths are estimated at 4 characters a token" if "tokenizer" in lacks else ""
            notes.add(f"on paper: the model folder has no {lacks}{tokens}; sweeper run will refuse it")
    return sorted(notes - {""})
