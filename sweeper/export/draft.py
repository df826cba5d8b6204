"""What a target's translation returns, and how it becomes the text of a file. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

Syntax = Literal["yaml", "json", "shell"]
WIDTH = 110
"""Columns of a head's text, without the comment sign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A config in a target's own words."""

    body: Mapping[str, Any] | str
    """The keys and values, or the text of a script."""
    command: str
    """How to train with it; ``{file}`` stands for the file's name."""
    notes: tuple[str, ...] = ()
    """What differs from the sweep's trial, or is left to the reader, one sentence each."""
    companions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further JSON files that the target reads, by path relative to the folder of the file."""


def render(draft: Draft, syntax: Syntax, provenance: list[str], file: str) -> tuple[str, str]:
    """Return the file's text and its head; the text begins with the head wherever the syntax has comments.

    JSON has none, and neither ``TrainingArguments`` nor its parser takes a key it does not know.
    """
    head = _head(draft, provenance, file)
    if syntax == "json":
        return json.dumps(draft.body, indent=2, allow_nan=False) + "\n", head
    commented = "".join(f"# {line}".rstrip() + "\n" for line in head.splitlines())
    if isinstance(draft.body, str):
        shebang, _, rest = draft.body.partition("\n")
        return f"{shebang}\n{commented}{rest}", head
    return commented + yaml.safe_dump(dict(draft.body), sort_keys=False, allow_unicode=True, width=WIDTH), head


def _head(draft: Draft, provenance: list[str], file: str) -> str:
    lines = [*provenance, "", "Train with it:"]
    lines += [f"  {line}" for line in draft.command.format(file=file).splitlines()]
    if draft.notes:
        lines += ["", "Differs from the sweep, or is left to you:"]
        for note in draft.notes:
            lines += textwrap.wrap(note, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"
