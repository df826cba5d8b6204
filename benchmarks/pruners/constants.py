"""``python -m benchmarks.pruners.constants``: what each constant of ``calibrated`` is worth, as tables in Markdown.

Every constant is halved and doubled, alone, on every grid given. One that was fitted to these curves would lose by
both. Then the best variant is chosen on one half of the grids and reported on the other, both ways round: what fitting
would have brought is what it brings there.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.pruners.holdout import holdout_table
from benchmarks.pruners.rows import Job, Row, curve_files, jobs_of, play, play_all

BASE: Final = "calibrated, risk 0.02"
CONSTANTS: Final = {
    "calibrated": ("BUDGET_SHARES",),
    "process": (
        *("LENGTHS", "NOISES", "STANDING_WEIGHTS", "PHASE_WEIGHT", "LEAST_PACE", "PRIOR_DOF", "TAIL_DOF", "TEMPER"),
        *("MIN_FINISHED", "MAX_TRIALS"),
    ),
    "forecast": ("PRIOR_DOF", "MIDDLE_SLOPE", "SLOPE_WEIGHT", "STALL_AGES", "LEAST_GAIN", "MAX_SHAPE", "MIN_TRIALS"),
    "own_record": ("TESTED", "AGE_SHARE", "NEARLY", "MOVED"),
    "path": ("STALL_MEMORY", "STALL_REPORTS"),
}
"""By module of ``sweeper.pruners``. Left out are names, what stands for "no" and "all" (0 and 1), and how often a trial
is looked at, a ratio that must stay above 1; and ``own_record.LIKE``, which says nothing where calibration trials are
drawn, as here."""
FACTORS: Final = (0.5, 2.0)


def changed(value: Any, factor: float) -> Any:
    """Return the constant times the factor; counts stay whole and at least 1."""
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor


@contextmanager
def constant(module: str, name: str, factor: float) -> Iterator[None]:
    """Change one constant wherever it was imported to, and put it back."""
    home = importlib.import_module(f"sweeper.pruners.{module}")
    value = vars(home)[name]
    # The same object: modules with a constant of their own of this name are left alone.
    users = [m for key, m in list(sys.modules.items()) if key.startswith("sweeper.") and vars(m).get(name) is value]
    try:
        for user in users:
            setattr(user, name, changed(value, factor))
        yield
    finally:
        for user in users:
            setattr(user, name, value)


def play_variant(path: Path, job: Job) -> Row:
    """Return the score of ``calibrated`` with the constant that the job's rule names changed."""
    if job.rule == BASE:
        return play(path, job)
    with constant(*VARIANTS[job.rule]):
        row = play(path, replace(job, rule=BASE))
    return {**row, "pruner": job.rule, "job": asdict(job)}


VARIANTS: Final = {
    f"{module}.{name} x {factor:g}": (module, name, factor)
    for module, names in CONSTANTS.items()
    for name in names
    for factor in FACTORS
}


def table(rows: Sequence[Row]) -> str:
    """Return saved / kept by family: as it is, then with each constant halved and doubled."""
    families = sorted({_family(row) for row in rows})
    half, double = (f"x {factor:g}" for factor in FACTORS)
    lines = ["| constant | " + " | ".join(f"{name} {way}" for name in families for way in (half, double)) + " |"]
    lines.append("|---" * (2 * len(families) + 1) + "|")
    base = [_cell(rows, BASE, name) for name in families for _ in FACTORS]
    lines.append(f"| as it is | {' | '.join(base)} |")
    for module, names in CONSTANTS.items():
        for name in names:
            cells = [_cell(rows, f"{module}.{name} {way}", family) for family in families for way in (half, double)]
            lines.append(f"| {module}.{name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _family(row: Row) -> str:
    return str(row["grid"]).split("_")[0]


def _cell(rows: Sequence[Row], rule: str, family: str) -> str:
    mine = [row for row in rows if row["pruner"] == rule and _family(row) == family]
    return f"{statistics.fmean(r['saved'] for r in mine):.2f} / {statistics.fmean(r['kept'] for r in mine):.3f}"


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners.constants", description=__doc__)
    parser.add_argument("--curves", type=Path, nargs="+", required=True, help="folders with curves/1 files")
    parser.add_argument("--grids", default="", help="only grids whose file name holds one of these, comma-separated")
    parser.add_argument("--workers", default="1,4,16")
    parser.add_argument("--orders", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep every row there; those of this commit are not played anew")
    args = parser.parse_args()
    files = curve_files(args.curves, args.grids)
    jobs = jobs_of(files, (BASE, *VARIANTS), args.workers, args.orders)
    rows = play_all(jobs, args.json, args.processes, play_variant)
    print(table(rows), end="\n\n")
    print(holdout_table(rows, 0.98))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
