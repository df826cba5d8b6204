"""The arguments of ``sweeper plan``; apart from the command, so that asking for help loads nothing."""

from __future__ import annotations

import argparse

from sweeper.arguments.space import add_space
from sweeper.core.accelerators import ACCELERATORS


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper plan`` takes."""
    add_space(parser)
    parser.add_argument("--gpu", metavar="NAME", help=f"plan for this GPU: {', '.join(ACCELERATORS)}; default: found")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs that the sweep may use; default: those found")
    parser.add_argument("--gpu-memory-gb", type=float, metavar="GIB", help="memory of one GPU; default: the preset's")
    parser.add_argument("--price", type=float, metavar="P", help="price of one GPU-hour, in any currency")
    parser.add_argument(
        "--from",
        dest="earlier",
        metavar="SWEEP",
        help="learn the speed from the trials of an earlier or running sweep on the same hardware",
    )
    parser.add_argument(
        "--like",
        action="append",
        default=[],
        metavar="FILE.jsonl|SWEEP",
        help="replay this recorded sweep to tell what pruning will save; may be repeated",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="run a few real steps of the extreme cells on this machine, and correct memory and time by them",
    )
    parser.add_argument("--explain", metavar="CELL", help="show one cell in full")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
