"""``sweeper plan``: every cell with what it needs, and what the sweep will cost; runs nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from sweeper.core.decode import nearest
from sweeper.core.errors import InputError
from sweeper.planning.cells import CellPlan
from sweeper.planning.plain import cell_json, plan_json


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
        print(json.dumps(cell_json(chosen), indent=1)) if args.json else print_cell(chosen, made.hardware, made.speed)
    elif args.json:
        print(json.dumps(plan_json(made)))
    else:
        print_plan(made.cells, made.total, made.hardware, made.speed, made.notes)
    return 0


def _cell(plans: Sequence[CellPlan], name: str) -> CellPlan:
    found = next((each for each in plans if each.planned.cell.name == name), None)
    if found is None:
        names = [each.planned.cell.name for each in plans]
        raise InputError("no such cell", where="--explain", got=name, mend=nearest(name, names))
    return found
