"""JSON lines as instructlab-training and mini-trainer (behind training-hub) write them, one file per run.

instructlab-training: ``training_params_and_metrics_global0.jsonl``, whose first line holds the settings.
mini-trainer: ``training_metrics_0.jsonl`` with ``training_params.json`` beside it.
Any other file with one JSON object per logged moment will do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sweeper.core.errors import InputError
from sweeper.imports import names
from sweeper.imports.files import read_lines, side_settings
from sweeper.imports.runs import LoggedRun

FILES: Final = ("training_params_and_metrics_global0.jsonl", "training_metrics_0.jsonl")


def read(path: Path) -> list[LoggedRun]:
    """Return the run of a file, or of each run folder under a folder.

    Raises:
        InputError: there is none, or a line is not a JSON object.
    """
    files = [path] if path.is_file() else sorted(found for name in FILES for found in path.rglob(name))
    if not files:
        raise InputError("holds no log", where=str(path), mend=f"a file of JSON lines, or a folder with {FILES[0]}")
    return [_run(file) for file in files]


def _run(file: Path) -> LoggedRun:
    settings, records = side_settings(file.parent), []
    for line in read_lines(file):
        if names.first(line, names.STEP) is None and names.first(line, names.SAMPLES) is None:
            settings |= line
        else:
            records.append(line)
    if not records:
        raise InputError("no line has a step or samples seen", where=str(file))
    name = file.parent.name if file.name in FILES else file.stem
    return LoggedRun(name=name, where=str(file), settings=settings, records=_joined(records))


def _joined(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give a line without samples, as a validation's is, those of the line with its step."""
    found = ((names.first(each, names.STEP), names.first(each, names.SAMPLES)) for each in records)
    samples = {_key(step): seen for step, seen in found if seen is not None}
    return [{**each, names.SAMPLES[0]: _seen(each, samples)} for each in records]


def _seen(record: dict[str, Any], samples: dict[str, Any]) -> Any:
    own = names.first(record, names.SAMPLES)
    return samples.get(_key(names.first(record, names.STEP))) if own is None else own


def _key(step: Any) -> str:
    """Return a step as text: a broken file may hold a list there."""
    return repr(step)
