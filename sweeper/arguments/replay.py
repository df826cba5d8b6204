"""The arguments of ``sweeper replay``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper replay`` takes."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="FILE.jsonl|SWEEP",
        help="recorded curves (format curves/1), or a finished sweep of your own by name or folder",
    )
    parser.add_argument(
        "--pruner",
        dest="pruners",
        action="append",
        default=[],
        metavar="SPEC",
        help="as the pruner key of a search space, e.g. median or '[{calibrated: {risk: 0.05}}]'; may be repeated",
    )
    parser.add_argument("--workers", default="1,4,16", metavar="N,...", help="trials at a time; default: 1,4,16")
    parser.add_argument("--orders", type=int, default=20, help="arrival orders to average over; default: 20")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first order; default: 0")
    parser.add_argument("--calibration", type=int, default=4, help="trials that first run to their end; default: 4")
    parser.add_argument("--order", choices=["promising", "random"], default="promising", help="how cells are proposed")
    parser.add_argument(
        "--search",
        default="grid",
        metavar="SPEC",
        help="which cells are run, as the search key of a search space, e.g. local or '{method: local, budget: 12}'; "
        "default: grid",
    )
    parser.add_argument(
        "--mode",
        choices=["stop", "promote"],
        default="stop",
        help="stop: each trial runs until it ends; promote: trials are paused and the most promising go on first",
    )
    for part in ("save", "restore"):
        parser.add_argument(
            f"--{part}-cost",
            type=float,
            default=0.0,
            metavar="SHARE",
            help=f"mode promote: what it costs to {part} a trial, as a share of a milestone's training; default: 0",
        )
    parser.add_argument("--signals", action="store_true", help="show what early signals foretold, by milestone")
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="judge a sweep of your own again in its own order of reports, and compare every verdict; needs no pruner",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per grid, pruner and workers")
    parser.add_argument("--decisions", type=Path, metavar="OUT.jsonl", help="write where each trial was ended")
    parser.add_argument("--plot", type=Path, metavar="FILE.png|svg", help="draw saved against kept, by family of grids")
