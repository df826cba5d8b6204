"""The arguments of ``sweeper import``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper import`` takes."""
    parser.add_argument(
        "kind",
        choices=["trainer-state", "jsonl", "mlflow"],
        help="folders with trainer_state.json (Trainer, TRL), JSON lines (instructlab, training-hub), or experiments",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a run or a folder of runs; PATH@KEY=VALUE,... adds what its log lacks; for mlflow, names of experiments",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="the file to write (curves/1)")
    parser.add_argument("--tracking", metavar="URI", help="MLflow's tracking URI; default: $MLFLOW_TRACKING_URI")
    parser.add_argument("--objective", metavar="NAME", help="what runs are ranked by; default: their held-out loss")
    parser.add_argument("--direction", choices=["minimize", "maximize"], help="default: minimize, for a loss")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of all runs that their logs do not hold, e.g. --set world_size=8",
    )
    parser.add_argument(
        "--axis",
        dest="axes",
        action="append",
        default=[],
        metavar="NAME",
        help="a further logged setting that sets runs apart; may be repeated",
    )
