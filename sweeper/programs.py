"""Trainers of the user's own, before and outside their trials: are they there, and what do they have to know."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sweeper.adapters.process.program import search_path
from sweeper.adapters.process.session import FOLDER_VARIABLE, OUTPUTS_VARIABLE
from sweeper.core.errors import InputError
from sweeper.core.layout import SweepFolder
from sweeper.core.program import ProgramConfig, words


def check(program: ProgramConfig) -> dict[str, Any]:
    """Return the facts of a sweep whose trials this trainer runs, started in the current folder.

    Raises:
        InputError: there is no such function or command.
    """
    if program.command is not None:
        name = words(program.command)[0]
        if not name.startswith("{") and shutil.which(name, path=search_path()) is None:
            raise InputError("no such command", where="trial.command", got=name)
    else:
        call = [sys.executable, "-m", "sweeper.adapters.process.call", str(program.function), "--check"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise InputError(f"cannot be imported: {lines[-1].removeprefix('error: ')}", where="trial.function")
    return {"train_samples": program.train_samples, "folder": str(Path.cwd())}


def environment(folder: SweepFolder, facts: dict[str, Any]) -> dict[str, str]:
    """Return what a rank has to know to start the sweep's trainer; empty where trials are native."""
    places = [found["folder"] for found in facts.values() if "folder" in found]
    if not places:
        return {}
    return {FOLDER_VARIABLE: places[0], OUTPUTS_VARIABLE: str(folder.outputs)}
