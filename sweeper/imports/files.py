"""Files that other programs wrote: read whole, or refused with one message that names the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from sweeper.core.errors import InputError

SIDE_FILES: Final = ("training_params.json", "training_args.json", "args.json", "hparams.json")
"""Where trainers leave a run's settings beside its log; ``training_args.bin`` is a pickle, which could run code."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file."""
    return _object(_text(path), str(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file of JSON lines; empty lines are none."""
    lines = _text(path).split("\n")
    return [_object(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def side_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that lie beside a log, as plain JSON; none where there are none."""
    found: dict[str, Any] = {}
    for name in reversed(SIDE_FILES):
        if (folder / name).is_file():
            found |= read_json(folder / name)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError("is not text", where=str(path)) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=where) from error
    if not isinstance(found, dict):
        raise InputError("must be a JSON object", where=where, got=str(found)[:80])
    return found
