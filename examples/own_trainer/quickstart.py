"""The quickstart's model and chats, for scripts that want folders and files of their own."""

from __future__ import annotations

import json
from pathlib import Path

from datasets import Dataset

from trials.world import resolve

MODEL: Path = resolve("builtin:quickstart")


def chats(name: str, count: int) -> Dataset:
    """Return the first chats of ``train``, ``new`` or ``old``."""
    lines = resolve(f"builtin:quickstart/{name}").read_text().splitlines()
    return Dataset.from_list([{"messages": json.loads(line)["messages"]} for line in lines[:count]])
