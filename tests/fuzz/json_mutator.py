"""Mutates the values inside JSON lines, which bytes changed at random nearly always turn into no JSON at all."""

from __future__ import annotations

import json
import random
from typing import Any, Final

VALUES: Final = (
    *(None, True, False, 0, -1, 1, 0.5, 2**63, 10**400, 1e308, -0.0, float("nan"), float("inf")),
    *("", " ", "nan", "1e5", "\ud800", "\x00", "../x", "<b>", [], {}, [[]], [None], {"": None}),
)
"""What a careless program writes, and what has broken parsers before."""


def mutated(data: bytes, max_bytes: int, seed: int) -> bytes | None:
    """Return ``data`` with one line changed, dropped or repeated; None where no line is JSON, or none fits."""
    rng = random.Random(seed)
    lines = data.decode("utf-8", errors="surrogateescape").split("\n")
    parsed = [(place, found) for place, line in enumerate(lines) if (found := _parsed(line)) is not None]
    if not parsed:
        return None
    place, value = rng.choice(parsed)
    action = rng.random()
    if action < 0.1:
        del lines[place]
    elif action < 0.2:
        lines.insert(rng.randrange(len(lines) + 1), lines[place])
    else:
        lines[place] = json.dumps(_changed(value, rng, [found for _, found in parsed]))
    found = "\n".join(lines).encode("utf-8", errors="surrogateescape")
    return found if len(found) <= max_bytes else None


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _changed(value: Any, rng: random.Random, others: list[Any]) -> Any:
    """Return ``value`` with one of its parts replaced, renamed or taken away."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        rest = {name: part for name, part in value.items() if name != key}
        action = rng.random()
        if action < 0.15:
            return rest
        if action < 0.25:
            return rest | {rng.choice(["", key.upper(), key + " ", "step"]): value[key]}
        return value | {key: _changed(value[key], rng, others)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        parts = [] if rng.random() < 0.2 else [_changed(value[place], rng, others)]
        return [*value[:place], *parts, *value[place + (rng.random() < 0.8) :]]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice([-value, value + 1, value * 1000, str(value), [value]])
    return rng.choice([*VALUES, *others])
