"""The arguments of ``sweeper export``."""

from __future__ import annotations

import argparse
from pathlib import Path

FORMATS = (
    *("yaml", "torchrun", "hf", "trl", "axolotl", "llamafactory", "training-hub", "torchtune"),
    *("accelerate", "deepspeed"),
)
"""The names in ``sweeper.export.targets.TARGETS``, which imports too much for every start of the command line."""


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper export`` takes."""
    parser.add_argument("sweep", metavar="SWEEP", help="name or folder")
    parser.add_argument("--to", choices=FORMATS, required=True, help="format; see docs/export.md")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="GPUs to train on at the same effective batch; default: the trial's ranks",
    )
