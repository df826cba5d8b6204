"""The arguments of ``sweeper export`` and ``sweeper register``."""

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


def add_register(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper register`` takes."""
    parser.add_argument("sweep", metavar="SWEEP", help="name or folder")
    parser.add_argument("--name", metavar="NAME", help="name of the registered model; default: the search space's")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="the winner's model, trained elsewhere; default: train it again on this machine",
    )
