"""Everything a trial needs to go on as if it had never stopped, whole or not at all.

The order of samples and the schedule are functions of the step, so a checkpoint is the engine's state, the step, the
counters, and the random state of each rank. On the same number of ranks the losses that follow are the same bits; on
another number they agree to rounding.

The state is copied to CPU memory before training goes on, and written from there in the background. A checkpoint bears
its name only when all of it is on disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.distributed as dist

from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import decode
from sweeper.core.errors import InputError, RecordError
from trials.gang import Gang

BYTES_BESIDE_PER_RANK = 65536
"""Random state, progress and lists, for each rank: more than ten times what they were on one."""
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
    signals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The running averages of ``signals.Signals``."""
    max_tokens_per_rank: int | None = None
    """The token limit to which memory has forced the trial; None where the config's holds."""


def work_key(config: TrialConfig) -> str:
    """Return a key that configs share if a trial of one can be continued under the other.

    Ranks, engine, where things are kept, and micro-batch size may change: they decide no numbers beyond rounding.
    """
    plain = replace(config.train, ranks=1, shard_ranks=None, engine="fsdp", zero_stage=1, max_tokens_per_rank=1)
    plain = replace(plain, activation_checkpointing=False, cpu_offload=False)
    return fingerprint(replace(config, train=plain))


WriteEngine: TypeAlias = Callable[[Path, dist.ProcessGroup | None], "Future[Any] | None"]
"""Writes an engine's state; see ``Engine.save``."""


class Writer:
    """Writes the checkpoints of a session, at most one at a time. Every method is called on all ranks at once."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._group: dist.ProcessGroup | None = None
        self._finisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, folder: Path, progress: Progress, write_engine: WriteEngine, *, keep: int | None = None) -> None:
        """Begin to write a checkpoint, and come back once training may go on.

        A folder of that name is replaced when the new one is complete.

        Args:
            keep: delete all but the newest so many checkpoints beside it, when it is complete.

        Raises:
            RecordError: the checkpoint before this one could not be written.
        """
        self.finish()
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        if self._gang.rank == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            (unfinished / "engine").mkdir(parents=True)
        _wait(self._gang)
        torch.save(_random_state(self._gang), unfinished / f"random-{self._gang.rank}-of-{self._gang.world_size}.pt")
        written = write_engine(unfinished / "engine", self._cpu_group())
        if written is None:
            _wait(self._gang)
        self._pending = self._finisher.submit(self._complete, written, folder, unfinished, progress, keep)

    def finish(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            RecordError: on any rank it could not be written; raised on all.
        """
        if self._pending is None:
            return
        error = self._pending.exception()
        self._pending = None
        if self._gang.any(error is not None):
            raise RecordError(f"a checkpoint could not be written: {error or 'another rank says why'}") from error

    def close(self) -> None:
        """Wait as ``finish`` does, but only for this rank's part: the others may have failed."""
        if self._pending is not None:
            self._pending.exception()
            self._pending = None
        self._finisher.shutdown()

    def _complete(
        self, written: Future[Any] | None, folder: Path, unfinished: Path, progress: Progress, keep: int | None
    ) -> None:
        if written is not None:
            # On rank 0 this ends when all ranks have written: it lists their files last.
            written.result()
        if self._gang.rank != 0:
            return
        with (unfinished / _PROGRESS).open("w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(progress)))
            file.flush()
            os.fsync(file.fileno())
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(unfinished, folder)
        shutil.rmtree(old, ignore_errors=True)
        if keep is not None:
            keep_last(folder.parent, keep)

    def _cpu_group(self) -> dist.ProcessGroup | None:
        """Return a group for the writing threads alone: on the trial's own their calls would mix with training's.

        They need one that knows the CPU besides, and NCCL does not.
        """
        if self._group is None and dist.is_initialized():
            self._group = dist.new_group(backend="gloo")
        return self._group


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
