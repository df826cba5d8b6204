"""Everything a trial needs to go on as if it had never stopped, whole or not at all.

The order of samples and the schedule are functions of the step, so a checkpoint is the engine's state, the step, the
counters, and the random state of each rank. On the same number of ranks the losses that follow are the same bits; on
another number they agree to rounding.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import decode
from sweeper.core.errors import InputError, RecordError
from trials.gang import Gang

_NAME = "step-{step:09d}"
_PROGRESS = "progress.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a trial has come."""

    work: str
    """Which work it is: see ``work_key``."""
    milestones: tuple[int, ...]
    step: int
    tokens_seen: int
    train_s: float
    eval_s: float


def work_key(config: TrialConfig) -> str:
    """Return a key that configs share if a trial of one can be continued under the other.

    Ranks, engine and micro-batch size may change: they decide no numbers beyond rounding.
    """
    plain = replace(config.train, ranks=1, engine="fsdp", zero_stage=1, max_tokens_per_rank=1)
    return fingerprint(replace(config, train=plain))


def save(folder: Path, progress: Progress, gang: Gang, write_engine: Callable[[Path], None]) -> None:
    """Write a checkpoint; all ranks call. A folder of that name is replaced once the new one is complete."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    if gang.rank == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "engine").mkdir(parents=True)
    _wait(gang)
    write_engine(unfinished / "engine")
    torch.save(_random_state(gang), unfinished / f"random-{gang.rank}-of-{gang.world_size}.pt")
    _wait(gang)
    if gang.rank == 0:
        (unfinished / _PROGRESS).write_text(json.dumps(asdict(progress)))
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(unfinished, folder)
        shutil.rmtree(old, ignore_errors=True)
    _wait(gang)


def load(folder: Path, work: str, gang: Gang, read_engine: Callable[[Path, int], None]) -> Progress:
    """Put a checkpoint back; all ranks call.

    Raises:
        InputError: there is no checkpoint, or it is of another trial.
        RecordError: it is damaged.
    """
    try:
        progress = decode(Progress, json.loads((folder / _PROGRESS).read_text()))
    except FileNotFoundError as error:
        raise InputError("is no complete checkpoint", where=str(folder)) from error
    except (ValueError, InputError) as error:
        raise RecordError(f"{folder / _PROGRESS} is damaged: {error}") from error
    if progress.work != work:
        raise InputError("is a checkpoint of another config", where=str(folder), got=progress.work)
    read_engine(folder / "engine", progress.step)
    state = folder / f"random-{gang.rank}-of-{gang.world_size}.pt"
    if state.is_file():
        _restore_random(torch.load(state, weights_only=True), gang)
    return progress


def path_of(root: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies under ``root``."""
    return root / _NAME.format(step=step)


def newest(root: Path) -> Path | None:
    """Return the newest complete checkpoint under ``root``."""
    found = sorted(path for path in root.glob("step-*") if (path / _PROGRESS).is_file())
    return found[-1] if found else None


def keep_last(root: Path, count: int) -> None:
    """Delete all but the newest ``count`` checkpoints under ``root``; one rank calls."""
    found = sorted(root.glob("step-*"))
    for path in found[: max(0, len(found) - count)]:
        shutil.rmtree(path)


def _random_state(gang: Gang) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if gang.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(gang.device)
    return state


def _restore_random(state: dict[str, torch.Tensor], gang: Gang) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and gang.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], gang.device)


def _wait(gang: Gang) -> None:
    if gang.world_size > 1:
        dist.barrier()
