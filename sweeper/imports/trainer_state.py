"""Folders of Hugging Face's Trainer and of TRL: ``trainer_state.json`` in a run's folder or in its checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from sweeper.core.errors import InputError
from sweeper.imports.files import read_json, side_settings
from sweeper.imports.runs import LoggedRun

STATE: Final = "trainer_state.json"
_CHECKPOINT: Final = re.compile(r"checkpoint-(\d+)")


def read(path: Path) -> list[LoggedRun]:
    """Return the run of a folder or state file, or of each run folder directly under a folder.

    The newest state of a run counts; its settings are those of a JSON file beside it (``training_args.json`` ...).

    Raises:
        InputError: there is no state, or it is not one that the Trainer writes.
    """
    if path.is_file():
        return [_run(path, path.parent)]
    own = _newest(path)
    if own is not None:
        return [_run(own, path)]
    children = sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
    found = [(state, child) for child in children if (state := _newest(child)) is not None]
    if not found:
        raise InputError(f"holds no {STATE}", where=str(path), mend="name the run's folder or a folder of runs")
    return [_run(state, child) for state, child in found]


def _newest(folder: Path) -> Path | None:
    if (folder / STATE).is_file():
        return folder / STATE
    steps = {int(match[1]): each for each in folder.glob("checkpoint-*") if (match := _CHECKPOINT.fullmatch(each.name))}
    states = [steps[step] / STATE for step in sorted(steps) if (steps[step] / STATE).is_file()]
    return states[-1] if states else None


def _run(file: Path, folder: Path) -> LoggedRun:
    state = read_json(file)
    history, last, planned = state.get("log_history"), state.get("global_step"), state.get("max_steps")
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise InputError("log_history must be a list of objects", where=str(file), got=type(history).__name__)
    if not isinstance(last, int) or not isinstance(planned, int):
        raise InputError("global_step and max_steps must be whole numbers", where=str(file), got=(last, planned))
    settings: dict[str, Any] = {"per_device_train_batch_size": state.get("train_batch_size")}
    settings |= {"epochs": state.get("num_train_epochs")}
    return LoggedRun(
        name=folder.name,
        where=str(file),
        settings={**{k: v for k, v in settings.items() if v is not None}, **side_settings(folder)},
        # The last entry sums the run up: its train_loss is a mean over all steps.
        records=[entry for entry in history if "train_runtime" not in entry],
        unfinished=f"ended at step {last} of {planned}" if planned > 0 and last < planned else "",
    )
