"""Keeps a sweep's plan beside it, so that what was foreseen can be held against what came."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

from sweeper.console.plan_tables import print_plan
from sweeper.core.layout import SweepFolder
from sweeper.core.space import Cell, SearchSpace
from sweeper.planned import Facts
from sweeper.planning.make import plan_from
from sweeper.planning.plain import plan_json


def keep_plan(folder: SweepFolder, space: SearchSpace, cells: Sequence[Cell], facts: Mapping[str, Facts]) -> None:
    """Write what ``sweeper plan`` says of the sweep on this machine, as it prints it and as its JSON.

    MLflow's summary run carries both. The hardware is that of the machine from which the sweep is driven; on a cluster
    the text says so by what it names.
    """
    made = plan_from(space, cells, facts)
    text = io.StringIO()
    print_plan(made.cells, made.total, made.hardware, made.speed, made.notes, stream=text)
    folder.plan_text.write_text(text.getvalue(), encoding="utf-8")
    folder.plan_json.write_text(json.dumps(plan_json(made), indent=1) + "\n", encoding="utf-8")
