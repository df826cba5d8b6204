"""Choose a rule on one half of the grids, report it on the other, both ways round.

A rule or a dial that was picked because it did well on some grids has to show it on grids that had no say in that.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def halves(grids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the grids in two halves, every second one by name, so that each family is in both."""
    ordered = sorted(set(grids))
    return ordered[::2], ordered[1::2]


def choose(rows: Sequence[Row], least_kept: float) -> str | None:
    """Return the rule that saves most among those that kept the best at least this often; None where none did."""
    rules = {str(row["pruner"]) for row in rows}
    found = {rule: _means([row for row in rows if row["pruner"] == rule]) for rule in rules}
    allowed = [(saved, rule) for rule, (saved, kept) in found.items() if kept >= least_kept]
    return max(allowed)[1] if allowed else None


def holdout_table(rows: Sequence[Row], least_kept: float) -> str:
    """Return, for both ways round, which rule was chosen and what it saved and kept where it was and was not chosen."""
    first, second = halves([str(row["grid"]) for row in rows])
    lines = ["| chosen on | rule | there: saved / kept | on the other half: saved / kept |", "|---" * 4 + "|"]
    for name, seen, unseen in (("first half", first, second), ("second half", second, first)):
        here = [row for row in rows if row["grid"] in seen]
        rule = choose(here, least_kept)
        if rule is None:
            lines.append(f"| {name} | none kept {least_kept:g} | | |")
            continue
        there = [row for row in rows if row["grid"] in unseen and row["pruner"] == rule]
        lines.append(f"| {name} | {rule} | {_cell([r for r in here if r['pruner'] == rule])} | {_cell(there)} |")
    return "\n".join(lines)


def _means(rows: Sequence[Row]) -> tuple[float, float]:
    saved, kept = (statistics.fmean(float(row[key]) for row in rows) for key in ("saved", "kept"))
    return saved, kept


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return "no grid"
    saved, kept = _means(rows)
    return f"{saved:.2f} / {kept:.2f}"
