"""The arguments of commands that take a search space or run trials."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_space(parser: argparse.ArgumentParser) -> None:
    """Add a search space and changes to it."""
    parser.add_argument(
        "space",
        type=Path,
        metavar="SPACE.yaml",
        help="the search space: a file, or the name of one that ships, e.g. quickstart",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of the space, e.g. --set train.epochs=2 --set 'grid.batch_size=[64, 256]'",
    )


def add_live(parser: argparse.ArgumentParser) -> None:
    """Add where trials run and how they are shown."""
    parser.add_argument(
        "--address", metavar="ADDRESS", help="a running Ray cluster: auto, HOST:PORT or ray://HOST:PORT"
    )
    parser.add_argument("--plain", action="store_true", help="plain lines instead of a live table")
