"""What ``sweeper init`` takes; apart from the command, so that asking for help loads nothing."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper init`` takes; what is left out is asked for where there is a terminal."""
    parser.add_argument("--model", metavar="PATH", help="model folder, hub name, or builtin:quickstart")
    parser.add_argument("--train", metavar="FILE", help="chats to train on: .jsonl, .parquet or a data set's name")
    parser.add_argument("--test", metavar="FILE", help="held-out chats, apart from those to train on")
    parser.add_argument("--gpu", metavar="NAME", help="GPU to plan for, as in sweeper plan; default: found")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs that the sweep may use; default: found")
    parser.add_argument("--gpu-memory-gb", type=float, metavar="GIB", help="memory of one GPU; default: the preset's")
    parser.add_argument("--lora", action="store_true", help="train adapters in place of all weights")
    parser.add_argument("--name", help="name of the sweep; default: the data's")
    parser.add_argument("--out", type=Path, default=Path("space.yaml"), metavar="FILE", help="default: space.yaml")
