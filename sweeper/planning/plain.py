"""A plan as plain values: what ``sweeper plan --json`` prints."""

from __future__ import annotations

from typing import Any

from sweeper.core.decode import encode
from sweeper.core.memory_terms import PARTS
from sweeper.planning.cells import CellPlan
from sweeper.planning.make import Planned


def plan_json(made: Planned) -> dict[str, Any]:
    """Return the whole plan."""
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
        "cells": [cell_json(each) for each in made.cells],
    }


def cell_json(each: CellPlan) -> dict[str, Any]:
    """Return one cell's plan; without memory and time where its model is not known."""
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
        "base_weight_bytes_per_node": round(each.memory.base),
        "max_tokens_per_rank": each.planned.cell.config.train.max_tokens_per_rank,
        "accumulation": each.batches.micro_batches,
        "fits": encode(each.choice),
        "train_s": each.train_s,
        "evaluation_s": each.evaluation_s,
        "gpu_hours": each.gpu_hours,
        "model_flops": each.work.flops,
        "checkpoint_bytes": round(each.checkpoint_bytes),
    }
