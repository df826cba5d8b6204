"""The arguments of commands that name a sweep that exists, and those of the smallest commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from sweeper.arguments.space import add_live, add_space


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the name of a sweep."""
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="name or folder; default: the latest sweep")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper run`` takes."""
    add_space(parser)
    parser.add_argument("--sweep", metavar="NAME", help="name of the sweep; default: the space's name and a number")
    add_live(parser)


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper resume`` takes."""
    add_sweep(parser)
    add_live(parser)


def add_confirm(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper confirm`` takes."""
    add_sweep(parser)
    parser.add_argument("--top", type=int, default=3, metavar="N", help="configurations to run again; default: 3")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="fresh seeds of each; default: 3")
    add_live(parser)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper report`` takes."""
    parser.add_argument(
        "sweep",
        nargs="?",
        metavar="SWEEP",
        help="name or folder, or a file of recorded curves (FILE.jsonl, format curves/1); default: the latest sweep",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the folder report in the sweep's own")


def add_ui(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper ui`` takes."""
    add_sweep(parser)
    parser.add_argument("--port", type=int, default=5000, help="default: 5000")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper completion`` takes."""
    parser.add_argument("shell", choices=["bash", "zsh"], help="the shell it is for")
