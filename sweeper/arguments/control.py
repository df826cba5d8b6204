"""The arguments of the commands that steer a sweep: ``stop``, ``unprune``, ``clone``."""

from __future__ import annotations

import argparse


def add_trial(parser: argparse.ArgumentParser, nargs: str | None = None, what: str = "") -> None:
    """Add a sweep and one of its trials."""
    parser.add_argument("sweep", metavar="SWEEP", help="name or folder")
    trial = "name of the trial, or the beginning of its fingerprint"
    parser.add_argument("trial", nargs=nargs, metavar="TRIAL", help=f"{trial}; {what}" if what else trial)


def add_stop(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper stop`` takes."""
    add_trial(parser, nargs="?", what="default: the whole run, which can be resumed")


def add_unprune(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper unprune`` takes."""
    add_trial(parser)
    parser.add_argument("--from-start", action="store_true", help="begin anew even where a checkpoint was kept")


def add_clone(parser: argparse.ArgumentParser) -> None:
    """Add what ``sweeper clone`` takes."""
    add_trial(parser)
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        required=True,
        metavar="KEY=VALUE",
        help="change one training setting, e.g. --set learning_rate=2e-5; may be repeated",
    )
