"""What became of samples longer than ``data.max_length``, as one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def over_long(facts: Mapping[str, Any]) -> str:
    """Return what ``trials prepare`` found of truncated and dropped samples, empty where there are none."""
    sets = {"training": facts, **facts.get("test", {})}
    told = []
    for name, found in sets.items():
        counts = {word: int(found.get(word, 0)) for word in ("truncated", "dropped")}
        if any(counts.values()):
            told.append(f"{name}: " + " and ".join(f"{count:,} {word}" for word, count in counts.items() if count))
    return "over-long samples, " + "; ".join(told) if told else ""
