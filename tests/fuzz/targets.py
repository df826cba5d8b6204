"""What is fuzzed: what reads a file of the user's. A target returns, or raises InputError; all else is a bug."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweeper.adapters.yaml_space import load_space
from sweeper.replay.curves import load_curves
from trials.chats import read_chats


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One parser with valid input to start from."""

    read: Callable[[Path], object]
    suffix: str
    seeds: tuple[str, ...]
    words: tuple[str, ...]
    """Parts of the format, and values that have broken parsers before."""


def _read_space(path: Path) -> None:
    # A long axis is refused or expanded; a fuzzer must not be let make a grid of millions.
    if path.read_bytes().count(b",") < 60:
        load_space(path)


def _read_chats(path: Path) -> None:
    for _, chat in read_chats(str(path), split="train"):
        for message in chat:
            message["content"].encode("utf-8")


SPACE = """\
sweep: demo
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}, max_length: 64}
train: {epochs: 2, engine: fsdp, ranks: 2, lora: {rank: 4}}
eval: {milestones: 4, metrics: [heldout_loss]}
grid:
  batch_size: [16, 64]
  learning_rate: [2e-5, 1e-3]
  warmup_steps: [0, 5]
objective: {metric: heldout_loss, direction: minimize}
pruner: [early_dynamics, {calibrated: {risk: 0.02}}]
"""
CHATS = (
    json.dumps({"messages": [{"role": "user", "content": "two and two?"}, {"role": "assistant", "content": "4"}]})
    + "\n"
    + json.dumps({"messages": [{"role": "system", "content": "be kind"}, {"role": "assistant", "content": "yes"}]})
    + "\n"
)
CURVES = "".join(
    json.dumps(row) + "\n"
    for row in (
        {
            "format": "curves/1",
            "grid": "demo",
            "objective": {"metric": "loss", "direction": "minimize", "final": "last"},
            "resource": "samples",
            "n_trials": 2,
        },
        {
            "trial": "a",
            "config": {"learning_rate": 0.1},
            "final": 1.0,
            "cost": 20,
            "curve": [{"resource": 10, "objective": 2.0, "train_loss": 1.5}, {"resource": 20, "objective": 1.0}],
        },
        {
            "trial": "b",
            "config": {"learning_rate": 1.0},
            "final": "NaN",
            "cost": 10,
            "curve": [{"resource": 10, "objective": "Infinity", "grad_norm": 3.0}],
        },
    )
)
AWKWARD = (
    "NaN",
    "-Infinity",
    "1e999",
    "null",
    "true",
    "[]",
    "{}",
    '""',
    "-1",
    "0",
    "1.5",
    "9" * 400,
    "\u2028",
    "\\ud800",
)
TARGETS = {
    "space": Target(
        read=_read_space,
        suffix=".yaml",
        seeds=(SPACE,),
        words=(*AWKWARD, "~", "~nobody/x", "&a", "*a", "<<: ", "!!python/object:os.system", "? ", "- ", "2001-01-01"),
    ),
    "chats": Target(
        read=_read_chats, suffix=".jsonl", seeds=(CHATS,), words=(*AWKWARD, '"messages"', '"role"', "tool")
    ),
    "curves": Target(
        read=load_curves, suffix=".jsonl", seeds=(CURVES,), words=(*AWKWARD, '"curve"', '"resource"', '"final"', "best")
    ),
}
