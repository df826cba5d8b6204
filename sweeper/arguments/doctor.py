"""What ``sweeper doctor`` takes; apart from the command, so that asking for help loads nothing."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper doctor`` takes."""
    parser.add_argument("space", nargs="?", type=Path, metavar="SPACE.yaml", help="also check what this space needs")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as for plan")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="also check this Ray cluster: auto, HOST:PORT or ray://HOST:PORT"
    )
    parser.add_argument("--port", type=int, default=5000, help="port that sweeper ui would use; default: 5000")
