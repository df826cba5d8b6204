"""What is fuzzed: what reads a file of the user's. A target returns, or raises InputError; all else is a bug."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweeper.adapters.mlflow.reader import ForeignRun
from sweeper.adapters.yaml_space import load_space
from sweeper.core.errors import InputError
from sweeper.imports import files, jsonl_logs, mlflow_runs, names, trainer_state
from sweeper.imports.runs import LoggedRun, Wanted, curves
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


def _read_log(path: Path) -> None:
    """Import a file as each of the three kinds; what an import writes must be a file that replay reads."""
    for read in (jsonl_logs.read, trainer_state.read, _as_mlflow_holds_it):
        try:
            lines = curves("grid", read(path), Wanted())
        except InputError:
            continue
        written = path.with_name("grid.jsonl")
        written.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        try:
            load_curves(written)
        except InputError as error:
            raise AssertionError(f"what was written is refused: {error}") from error


def _as_mlflow_holds_it(path: Path) -> list[LoggedRun]:
    """Take each line as a run that some trainer logged: its params and tags are text, its metrics numbers."""
    found = []
    for number, line in enumerate(files.read_lines(path)):
        texts = {str(key): str(value) for key, value in line.items()}
        numbers = {key: names.number(value) for key, value in line.items()}
        records = [{"step": step} | {k: v for k, v in numbers.items() if v is not None} for step in (10, 20)]
        found.append(
            ForeignRun(
                name=texts.get("name", ""),
                run_id=str(number),
                status=texts.get("status", "FINISHED"),
                params=texts,
                tags=texts,
                records=tuple(records),
            )
        )
    return mlflow_runs.take_over(found, "experiment", Wanted())[0]


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
LOG = "".join(
    json.dumps(row) + "\n"
    for row in (
        {"learning_rate": 1e-5, "effective_batch_size": 100, "seed": 42},
        {"step": 1, "avg_loss": 3.0, "gradnorm": 2.0, "lr": 1e-5, "samples_seen": 97},
        {"step": 1, "val_loss": 1.5},
        {"step": 2, "avg_loss": "NaN", "gradnorm": "Infinity", "lr": 1e-5, "samples_seen": 194, "val_loss": 1.2},
    )
)
TRAINER_STATE = json.dumps(
    {
        "global_step": 20,
        "max_steps": 20,
        "train_batch_size": 4,
        "num_train_epochs": 1,
        "batch_size": 8,
        "log_history": [
            {"step": 10, "loss": 2.0, "grad_norm": 1.5, "learning_rate": 1e-4, "total_samples_seen": 80},
            {"step": 20, "eval_loss": 1.0, "total_samples_seen": 160},
            {"step": 20, "train_loss": 2.0, "train_runtime": 60.0},
        ],
    }
)
MLFLOW_RUNS = "".join(
    json.dumps(row) + "\n"
    for row in (
        {"name": "a", "status": "FINISHED", "batch_size": "16", "learning_rate": "1e-05", "loss": 2.0, "eval_loss": 1},
        {"name": "b", "status": "FINISHED", "batch_size": "16", "lr": "5e-05", "train/loss": 2.0, "eval_loss": 1.1},
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
    "imports": Target(
        read=_read_log,
        suffix=".jsonl",
        seeds=(LOG, TRAINER_STATE, MLFLOW_RUNS),
        words=(
            *AWKWARD,
            '"step"',
            '"samples_seen"',
            '"eval_loss"',
            '"log_history"',
            '"objective"',
            '"direction"',
            "e7",
        ),
    ),
    "curves": Target(
        read=load_curves, suffix=".jsonl", seeds=(CURVES,), words=(*AWKWARD, '"curve"', '"resource"', '"final"', "best")
    ),
}
