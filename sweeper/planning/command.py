"""``sweeper plan``: every cell with what it needs, and what the sweep will cost; runs nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from sweeper.core.decode import encode, nearest
from sweeper.core.errors import InputError
from sweeper.core.memory_terms import PARTS
from sweeper.planning.cells import CellPlan
from sweeper.planning.make import Planned


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code.

    Raises:
        InputError: the space, its model or data, or a flag cannot be used.
    """
    from sweeper.api import load_space, plan
    from sweeper.console.plan_tables import print_cell, print_plan

    made = plan(
        load_space(args.space, args.overrides),
        gpu=args.gpu,
        gpus=args.gpus,
        gpu_memory_gib=args.gpu_memory_gb,
        price=args.price,
        earlier=args.earlier,
        like=args.like,
        probe=args.probe,
    ).made
    if args.explain is not None:
        chosen = _cell(made.cells, args.explain)
        print(json.dumps(_cell_json(chosen), indent=1)) if args.json else print_cell(chosen, made.hardware, made.speed)
    elif args.json:
        print(json.dumps(_json(made)))
    else:
        print_plan(made.cells, made.total, made.hardware, made.speed, made.notes)
    return 0


def _cell(plans: Sequence[CellPlan], name: str) -> CellPlan:
    found = next((each for each in plans if each.planned.cell.name == name), None)
    if found is None:
        names = [each.planned.cell.name for each in plans]
        raise InputError("no such cell", where="--explain", got=name, mend=nearest(name, names))
    return found


def _json(made: Planned) -> dict[str, Any]:
    total, where = made.total, made.hardware
    summed = encode(total) | {"gpu_hours_with_pruning": [total.cheapest, total.dearest]}
    if total.price is not None:
        summed["cost"] = total.price * total.gpu_hours
        summed["cost_with_pruning"] = [total.price * total.cheapest, total.price * total.dearest]
    return {
        "hardware": {"device": where.device.name, "count": where.count, "memory_bytes": where.device.memory},
        "speed": {"share_of_peak": 1 / made.speed.compute, "learned_from_trials": made.speed.trials},
        "probes": [
            encode(each) | {"memory_ratio": each.memory_ratio if where.is_gpu else None} for each in made.probes
        ],
        "sweep": summed,
        "notes": list(made.notes),
        "cells": [_cell_json(each) for each in made.cells],
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
