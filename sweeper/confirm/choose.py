"""Which cells are run again, and with which seeds: the same answer however often it is asked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweeper.adapters.study import StudyLedger
from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import decode
from sweeper.core.errors import InputError
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepSummary
from sweeper.core.space import Cell
from sweeper.core.standings import SEED_AXES, standings
from sweeper.planned import PlannedCell, plan_cells


def choose(
    summary: SweepSummary, ledger: StudyLedger, facts: Mapping[str, Any], *, top: int, seeds: int
) -> tuple[PlannedCell, ...]:
    """Return the leaders' fresh runs, one seed after the other, all leaders with each.

    Leaders are the best by the grid's own runs, and fresh seeds the smallest that no cell of the grid has: asked again,
    with more seeds or leaders, it returns the same runs and further ones.

    Raises:
        InputError: the sweep has not ended, or fewer than two configurations ran to their end.
    """
    if top < 2 or seeds < 2:
        where, got = ("--top", top) if top < 2 else ("--seeds", seeds)
        raise InputError("must be at least 2", where=where, got=got)
    grid = [row for row in summary.rows if not row.replicate_of]
    left = sum(not TrialState(row.state).is_final for row in grid)
    if left:
        raise InputError(
            f"{left} cells have not ended", where=summary.sweep, mend=f"first: sweeper resume {summary.sweep}"
        )
    leaders = standings(grid, maximize=summary.direction == "maximize")[:top]
    if len(leaders) < 2:
        raise InputError("needs two configurations that ran to their end", where=summary.sweep, got=len(leaders))
    configs = {row.fingerprint: decode(TrialConfig, ledger.config(row.fingerprint)) for row in grid}
    taken = {config.train.seed for config in configs.values()}
    fresh = list(itertools.islice((seed for seed in itertools.count() if seed not in taken), seeds))
    found = []
    for seed, leader in itertools.product(fresh, leaders):
        row = grid[leader.place]
        found.append(_again(configs[row.fingerprint], row.axes, leader.name, row.fingerprint, seed, facts))
    return tuple(found)


def entered(ledger: StudyLedger, facts: Mapping[str, Any]) -> tuple[PlannedCell, ...]:
    """Return the fresh runs that the study holds, in their order, whatever became of them."""
    return tuple(
        _planned(decode(TrialConfig, ledger.config(cell.fingerprint)), cell.axes, cell.name, cell.replicate_of, facts)
        for cell in ledger.cells()
        if cell.replicate_of
    )


def _again(
    config: TrialConfig, axes: Mapping[str, Any], name: str, of: str, seed: int, facts: Mapping[str, Any]
) -> PlannedCell:
    """Return a leader's run with another seed; only a seed that was an axis is one of its axes."""
    moved = {axis: seed if axis in SEED_AXES else value for axis, value in axes.items()}
    other = replace(config, train=replace(config.train, seed=seed))
    return _planned(other, moved, f"{name}-s{seed}", of, facts)


def _planned(config: TrialConfig, axes: Mapping[str, Any], name: str, of: str, facts: Mapping[str, Any]) -> PlannedCell:
    cell = Cell(index=0, axes=axes, config=config, fingerprint=fingerprint(config), name=name)
    (planned,) = plan_cells([cell], facts)
    return replace(planned, replicate_of=of)


def enter(ledger: StudyLedger, found: Sequence[PlannedCell]) -> None:
    """Enter fresh runs into the study; those that it holds already are left as they are."""
    for each in found:
        ledger.add_cell(
            each.cell,
            planned_samples=each.derived.planned_samples,
            # Only guards may end it.
            calibration=True,
            replicate_of=each.replicate_of,
        )
