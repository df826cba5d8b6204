"""``python -m benchmarks.pruners --curves FOLDER``: every rule on every recorded grid, as tables in Markdown.

Saved, regret and kept are as ``sweeper.replay.score`` defines them. A family is the part of a grid's name before the
first underscore.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pruners.holdout import holdout_table
from benchmarks.pruners.rows import Row, curve_files, jobs_of, play_all
from benchmarks.pruners.rules import RISKS, RULES
from sweeper.replay.plot import Orders, check_picture, draw


def family(row: Row) -> str:
    """Return the family of the row's grid."""
    return str(row["grid"]).split("_")[0]


def rules_table(rows: Sequence[Row]) -> str:
    """Return saved / kept / kept on the worst grid, by rule and family, all workers together."""
    families = sorted({family(row) for row in rows})
    lines = ["| rule | " + " | ".join(f"{name} saved / kept / worst" for name in families) + " |"]
    lines.append("|---" * (len(families) + 1) + "|")
    for rule in dict.fromkeys(row["pruner"] for row in rows):
        cells = [_cell([r for r in rows if r["pruner"] == rule and family(r) == name]) for name in families]
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def workers_table(rows: Sequence[Row], rule: str) -> str:
    """Return saved / kept of one rule by grid and number of workers."""
    mine = [row for row in rows if row["pruner"] == rule]
    counts = sorted({row["workers"] for row in mine})
    lines = [f"| grid | {' | '.join(f'{n} workers' for n in counts)} |", "|---" * (len(counts) + 1) + "|"]
    for grid in dict.fromkeys(row["grid"] for row in mine):
        found = {row["workers"]: row for row in mine if row["grid"] == grid}
        cells = [f"{found[n]['saved']:.2f} / {found[n]['kept']:.2f}" for n in counts]
        lines.append(f"| {grid} | {' | '.join(cells)} |")
    return "\n".join(lines)


def calibration_table(rows: Sequence[Row]) -> str:
    """Return the observed loss rate and its 95% sampling error by risk and family.

    Orders of one grid are alike, so the error is taken over grids: 1.96 standard errors of the grids' mean losses.
    """
    families = ["all", *sorted({family(row) for row in rows})]
    lines = ["| risk | " + " | ".join(families) + " |", "|---" * (len(families) + 1) + "|"]
    for mode in ("", ", promote"):
        for risk in RISKS:
            mine = [row for row in rows if row["pruner"] == f"calibrated, risk {risk}{mode}"]
            if mine:
                cells = [_loss([row for row in mine if name in ("all", family(row))]) for name in families]
                lines.append(f"| {risk}{mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Draw saved against kept, one panel per family."""
    found = [
        Orders(
            grid=row["grid"],
            pruner=row["pruner"],
            workers=row["workers"],
            saved=row["saved_by_order"],
            kept=row["kept_by_order"],
        )
        for row in rows
    ]
    promised = {f"calibrated, risk {risk}{mode}": 1 - risk for risk in RISKS for mode in ("", ", promote")}
    named = {each.pruner for each in found}
    draw(found, path, {rule: kept for rule, kept in promised.items() if rule in named})


def _cell(rows: Sequence[Row]) -> str:
    grids = {row["grid"] for row in rows}
    worst = min(statistics.fmean(r["kept"] for r in rows if r["grid"] == grid) for grid in grids)
    saved, kept = (statistics.fmean(row[key] for row in rows) for key in ("saved", "kept"))
    return f"{saved:.2f} / {kept:.2f} / {worst:.2f}"


def _loss(rows: Sequence[Row]) -> str:
    grids = sorted({row["grid"] for row in rows})
    losses = [1 - statistics.fmean(r["kept"] for r in rows if r["grid"] == grid) for grid in grids]
    error = 1.96 * statistics.stdev(losses) / math.sqrt(len(losses)) if len(losses) > 1 else 0.0
    return f"{statistics.fmean(losses):.3f} ± {error:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners", description=__doc__)
    parser.add_argument("--curves", type=Path, required=True, help="folder with curves/1 files")
    parser.add_argument("--grids", default="", help="only grids whose file name holds one of these, comma-separated")
    parser.add_argument("--rules", default="", help="only rules whose name holds one of these, semicolon-separated")
    parser.add_argument("--workers", default="1,4,16")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep every row there; those of this commit are not played anew")
    parser.add_argument("--plot", type=Path, help="also draw saved against kept, .png or .svg")
    parser.add_argument(
        "--holdout", type=float, metavar="KEPT", help="also choose the rule on one half of the grids, report the other"
    )
    args = parser.parse_args()
    if args.plot:
        check_picture(args.plot)
    files = curve_files([args.curves], args.grids)
    named = [part for part in args.rules.split(";") if part]
    rules = [name for name in RULES if not named or any(part in name for part in named)]
    if not rules:
        parser.error(f"--rules: none holds {args.rules!r}; there are: {'; '.join(RULES)}")
    jobs = jobs_of(files, rules, args.workers, args.orders, args.seed)
    rows = play_all(jobs, args.json, args.processes)
    if args.plot:
        draw_rows(rows, args.plot)
    print(rules_table(rows), end="\n\n")
    for rule in rules:
        if rule.startswith("calibrated, risk 0.02"):
            print(workers_table(rows, rule), end="\n\n")
    print(calibration_table(rows), end="\n\n")
    if args.holdout is not None:
        print(holdout_table(rows, args.holdout), end="\n\n")
    print(f"{len(rows)} rows of {args.orders} orders, {sum(row['processor_s'] for row in rows):.0f} s of one core")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
