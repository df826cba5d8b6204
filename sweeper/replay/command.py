"""``sweeper replay``: what a pruner would have saved on recorded sweeps, and whether the best would have survived."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.adapters.yaml_space import parse
from sweeper.core.decode import decode
from sweeper.core.errors import InputError
from sweeper.core.layout import find_sweep, sweeps_root
from sweeper.core.search import SearchConfig
from sweeper.pruners.calibrated import CalibratedPruner
from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import Grid, load_curves
from sweeper.replay.plot import Orders, check_picture, draw
from sweeper.replay.promoted import PauseCosts
from sweeper.replay.score import Score
from sweeper.replay.signals import signals_table
from sweeper.replay.simulate import replay
from sweeper.replay.simulated import Ending


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code.

    Raises:
        InputError: an argument or a file cannot be used; nothing was written.
    """
    if args.recorded:
        return _judge_again(args)
    workers = _workers(args.workers)
    for name, value, least in (("--orders", args.orders, 1), ("--calibration", args.calibration, 0)):
        if value < least:
            raise InputError(f"must be at least {least}", where=name, got=value)
    if args.plot is not None:
        check_picture(args.plot)
    promote, search = _promote(args), _search(args)
    if not args.pruners and not args.signals:
        raise InputError("nothing to do", where="--pruner", got=None, mend="name a pruner, or ask for --signals")
    specs = [(text, _spec(text)) for text in args.pruners]
    grids = [_grid(source) for source in args.sources]
    if args.signals:
        print("\n\n".join(signals_table(grid) for grid in grids), file=sys.stderr if args.json else sys.stdout)
    return _replay(args, grids, specs, workers, promote, search) if specs else 0


def _replay(
    args: argparse.Namespace,
    grids: Sequence[Grid],
    specs: Sequence[tuple[str, Any]],
    workers: Sequence[int],
    promote: PauseCosts | None,
    search: SearchConfig,
) -> int:
    scores: list[Score] = []
    lines: list[str] = []
    orders: list[Orders] = []
    for grid in grids:
        for text, spec in specs:
            found = replay(
                grid,
                text,
                lambda direction, spec=spec: from_spec(spec, direction=direction),  # type: ignore[misc]
                workers=workers,
                orders=args.orders,
                seed=args.seed,
                calibration=args.calibration,
                order=args.order,
                promote=promote,
                search=search,
            )
            for score, endings in found:
                scores.append(score)
                lines += _decisions(grid, score.workers, endings)
                stops = [ending.stopped_at for ending in endings]
                orders.append(Orders.of(grid, text, score.workers, stops, [ending.spent for ending in endings]))
                if args.json:
                    print(json.dumps(score.to_json()), flush=True)
    if not args.json:
        print(_table(scores))
    if args.decisions is not None:
        args.decisions.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    if args.plot is not None:
        draw(orders, args.plot, _targets(specs))
    return 0


def _promote(args: argparse.Namespace) -> PauseCosts | None:
    """Return what pausing costs in mode ``promote``, None in mode ``stop``; refuse what belongs to the other one."""
    if args.mode == "promote":
        if args.order == "random":
            raise InputError("promotion has an order of its own", where="--order", got=args.order, mend="leave it out")
        try:
            return PauseCosts(save=args.save_cost, restore=args.restore_cost)
        except InputError as error:
            raise error.at(f"--{error.where}-cost") from error
    for name, cost in (("--save-cost", args.save_cost), ("--restore-cost", args.restore_cost)):
        if cost:
            raise InputError("nothing is paused in mode stop", where=name, got=cost, mend="give --mode promote")
    return None


def _search(args: argparse.Namespace) -> SearchConfig:
    """Return which cells are run; refuse what has an order of its own beside it."""
    _, plain = parse(f"search: {args.search}", "--search")
    found = plain["search"]
    try:
        search = decode(SearchConfig, {"method": found} if isinstance(found, str) else found)
    except InputError as error:
        raise error.at(f"--search {error.where}".strip()) from error
    for name, given in (("--order", args.order == "random"), ("--mode", args.mode == "promote")):
        if search.is_local and given:
            raise InputError("local search has an order of its own", where=name, mend="leave it out")
    return search


def _judge_again(args: argparse.Namespace) -> int:
    """Judge each sweep's own record again; 1 where a verdict differs."""
    from sweeper.replay.recorded import judge_again
    from sweeper.sweep import hold_back_of, open_ledger, reopen

    differ = 0
    for source in args.sources:
        folder = find_sweep(source, sweeps_root())
        space, _ = reopen(folder)
        ledger = open_ledger(folder, space)
        given = judge_again(ledger.study, space.objective, ledger.study.pruner, hold_back_of(space))
        wrong = [each for each in given if not each.same]
        differ += len(wrong)
        prunes = sum(each.recorded.prunes for each in given)
        print(
            f"{folder.name}: {len(given) - len(wrong)} of {len(given)} verdicts are the same, {prunes} prunes among all"
        )
        for each in wrong:
            print(f"  {each.trial} at milestone {each.milestone}\n    then {each.recorded}\n    now  {each.replayed}")
    return 1 if differ else 0


def _grid(source: str) -> Grid:
    if source.endswith(".jsonl"):
        return load_curves(Path(source))
    from sweeper.replay.sweeps import load_sweep

    grid, left_out = load_sweep(find_sweep(source, sweeps_root()))
    if left_out:
        print(f"{grid.name}: {left_out} trials that did not run to their end are left out", file=sys.stderr)
    return grid


def _spec(text: str) -> Any:
    _, plain = parse(f"pruner: {text}", "--pruner")
    from_spec(plain["pruner"], direction="minimize")
    return plain["pruner"]


def _targets(specs: Sequence[tuple[str, Any]]) -> dict[str, float]:
    """Return the share of sweeps in which each pruner that has a dial of risk should keep the best."""
    pruners = {text: from_spec(spec, direction="minimize").pruners for text, spec in specs}
    dialled = ((text, each) for text, parts in pruners.items() for each in parts if isinstance(each, CalibratedPruner))
    return {text: 1 - each.risk for text, each in dialled}


def _workers(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise InputError("must be whole numbers above 0, separated by commas", where="--workers", got=text)
    return counts


def _decisions(grid: Grid, workers: int, endings: Sequence[Ending]) -> list[str]:
    return [
        json.dumps(
            {"grid": grid.name, "workers": workers, "order": order, "trial": trial.name, "stopped_at": stopped_at}
        )
        for order, ending in enumerate(endings)
        for trial, stopped_at in zip(grid.trials, ending.stopped_at, strict=True)
    ]


def _table(scores: Sequence[Score]) -> str:
    """Return an aligned table for people, one line per score."""
    rows = [("grid", "pruner", "workers", "saved", "kept", "regret")]
    rows += [(s.grid, s.pruner, str(s.workers), f"{s.saved:.2f}", f"{s.kept:.2f}", f"{s.regret:.3f}") for s in scores]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = (
        [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)
