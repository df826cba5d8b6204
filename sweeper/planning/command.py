"""``sweeper plan``: every cell with what it needs, and what the sweep will cost; runs nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from sweeper.core.decode import encode, nearest
from sweeper.core.errors import InputError
from sweeper.core.memory_terms import PARTS
from sweeper.core.over_long import over_long
from sweeper.core.roofline import Speed
from sweeper.core.space import SearchSpace
from sweeper.planning.cells import CellPlan, CellPlanner
from sweeper.planning.hardware import Hardware, hardware
from sweeper.planning.totals import SweepPlan, sweep_plan


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code.

    Raises:
        InputError: the space, its model or data, or a flag cannot be used.
    """
    from sweeper.adapters.yaml_space import load_space
    from sweeper.console.plan_tables import print_cell, print_plan
    from sweeper.plan import facts_key, find_facts, plan_cells

    if args.price is not None and args.price < 0:
        raise InputError("must be at least 0", where="--price", got=args.price)
    where = hardware(args.gpu, args.gpu_memory_gb, args.gpus)
    space, cells = load_space(args.space, args.overrides)
    facts = find_facts(cells, on_paper=True)
    planned = plan_cells(cells, facts)
    per_rank = _gpus_per_rank(space, where)
    speed = Speed(compute=1 / where.device.efficiency)
    if args.earlier is not None:
        from sweeper.planning.history import learned_speed

        speed = learned_speed(args.earlier, where, speed, gpus_per_rank=per_rank)
    planner = CellPlanner(where, speed, gpus_per_rank=per_rank)
    plans = [planner.plan(each, facts[facts_key(each.cell.config)]) for each in planned]
    total = sweep_plan(space, plans, where, price=args.price, like=args.like)
    notes = _notes(facts.values())
    if args.explain is not None:
        chosen = _cell(plans, args.explain)
        print(json.dumps(_cell_json(chosen), indent=1)) if args.json else print_cell(chosen, where, speed)
    elif args.json:
        print(json.dumps(_json(plans, total, where, speed, notes)))
    else:
        print_plan(plans, total, where, speed, notes)
    return 0


def _gpus_per_rank(space: SearchSpace, where: Hardware) -> float:
    """Return the devices that one rank counts for; CPU ranks count as one each, so that their hours can be summed."""
    asked = space.resources.gpus_per_rank
    return asked if where.is_gpu and asked is not None else 1.0


def _notes(facts: Any) -> list[str]:
    """Return what is to be said once for each model and data set."""
    notes = {over_long(found) for found in facts}
    for found in facts:
        model = found.get("model", {})
        lacks = " and no ".join(model.get("lacks", ()))
        if lacks:
            tokens = "; lengths are estimated at 4 characters a token" if "tokenizer" in lacks else ""
            notes.add(f"on paper: the model folder has no {lacks}{tokens}; sweeper run will refuse it")
    return sorted(notes - {""})


def _cell(plans: Sequence[CellPlan], name: str) -> CellPlan:
    found = next((each for each in plans if each.planned.cell.name == name), None)
    if found is None:
        names = [each.planned.cell.name for each in plans]
        raise InputError("no such cell", where="--explain", got=name, mend=nearest(name, names))
    return found


def _json(
    plans: Sequence[CellPlan], total: SweepPlan, where: Hardware, speed: Speed, notes: Sequence[str]
) -> dict[str, Any]:
    summed = encode(total) | {"gpu_hours_with_pruning": [total.cheapest, total.dearest]}
    if total.price is not None:
        summed["cost"] = total.price * total.gpu_hours
        summed["cost_with_pruning"] = [total.price * total.cheapest, total.price * total.dearest]
    return {
        "hardware": {"device": where.device.name, "count": where.count, "memory_bytes": where.device.memory},
        "speed": {"share_of_peak": 1 / speed.compute, "learned_from_trials": speed.trials},
        "sweep": summed,
        "notes": list(notes),
        "cells": [_cell_json(each) for each in plans],
    }


def _cell_json(each: CellPlan) -> dict[str, Any]:
    derived = each.planned.derived
    plain: dict[str, Any] = {
        "cell": each.planned.cell.name,
        "fingerprint": each.planned.cell.fingerprint,
        "infeasible": each.infeasible,
        "steps": derived.total_steps,
        "warmup_steps": derived.warmup_steps,
        "samples": derived.planned_samples,
    }
    if each.memory is None or each.batches is None or each.work is None:
        return plain
    memory = {part: round(getattr(each.memory, part)) for part in (*PARTS, "host", "device")}
    return plain | {
        "memory_bytes_per_rank": memory,
        "max_tokens_per_rank": each.planned.cell.config.train.max_tokens_per_rank,
        "accumulation": each.batches.micro_batches,
        "fits": encode(each.choice),
        "train_s": each.train_s,
        "evaluation_s": each.evaluation_s,
        "gpu_hours": each.gpu_hours,
        "model_flops": each.work.flops,
        "checkpoint_bytes": round(each.checkpoint_bytes),
    }
