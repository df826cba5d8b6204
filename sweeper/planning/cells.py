"""What one cell needs: memory by part, micro-batches that fit, steps, time, GPU-hours, host memory, disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sweeper.core.accelerators import GIB
from sweeper.core.config import LoraConfig, TrainConfig
from sweeper.core.figures import count
from sweeper.core.memory import estimate
from sweeper.core.memory_terms import Memory
from sweeper.core.micro_batch import Batches, Lengths, batches
from sweeper.core.roofline import Speed, Work, work_of
from sweeper.core.shape import ModelShape, shape_of
from sweeper.planned import Facts, PlannedCell
from sweeper.planning.hardware import Hardware

MOST_SHARDS: Final = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Micro-batches that fill a rank's memory as far as it goes."""

    max_tokens_per_rank: int
    accumulation: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CellPlan:
    """A cell with all that could be calculated of it; None where model or data do not tell."""

    planned: PlannedCell
    infeasible: str | None
    """Why it cannot run: a rule of its config, or memory."""
    batches: Batches | None = None
    memory: Memory | None = None
    choice: Choice | None = None
    """None where the device's memory is not known, or nothing fits."""
    work: Work | None = None
    train_s: float = 0.0
    evaluation_s: float = 0.0
    checkpoint_bytes: float = 0.0
    """One checkpoint on disk; while it is written all ranks together hold as much in the host's memory."""
    gpus: float = 0.0

    @property
    def seconds(self) -> float:
        return self.train_s + self.evaluation_s

    @property
    def gpu_hours(self) -> float:
        return self.gpus * self.seconds / 3600


class CellPlanner:
    """Plans the cells of one sweep; cells that differ in nothing that memory depends on share their calculation."""

    def __init__(self, hardware: Hardware, speed: Speed, *, gpus_per_rank: float, memory_factor: float = 1.0) -> None:
        """``memory_factor``: measured over calculated memory, where a probe has told."""
        self._memory_factor = memory_factor
        self._hardware = hardware
        self._speed = speed
        self._gpus_per_rank = gpus_per_rank
        self._memory: dict[object, tuple[Memory, Choice | None]] = {}
        self._known_batches: dict[object, Batches] = {}
        self._shapes: dict[int, tuple[ModelShape | None, Lengths | None]] = {}

    def plan(self, planned: PlannedCell, facts: Facts) -> CellPlan:
        """Return the plan of one cell; ``facts`` must be the same object for cells of the same model and data."""
        train = planned.cell.config.train
        gpus = train.ranks * self._gpus_per_rank
        shape, lengths = self.read(facts)
        if shape is None or lengths is None:
            return CellPlan(planned=planned, infeasible=planned.infeasible, gpus=gpus)
        each = self._batches(train, lengths, planned.derived.total_steps)
        key = (id(facts), planned.derived.total_steps, _what_memory_depends_on(train))
        if key not in self._memory:
            self._memory[key] = self._fit(shape, train, lengths, planned.derived.total_steps)
        memory, choice = self._memory[key]
        work = self.work(planned, facts, shape, lengths, each)
        trained = shape.adapters(train.lora).trained if train.lora else shape.parameters
        return CellPlan(
            planned=planned,
            infeasible=planned.infeasible or self._too_large(shape, train, lengths, memory, choice, planned),
            batches=each,
            memory=memory,
            choice=choice,
            work=work,
            train_s=self._speed.train_s(work),
            evaluation_s=self._speed.evaluation_s(work),
            checkpoint_bytes=12 * trained,
            gpus=gpus,
        )

    def work(self, planned: PlannedCell, facts: Facts, shape: ModelShape, lengths: Lengths, each: Batches) -> Work:
        """Return what a cell has to do on this hardware."""
        config = planned.cell.config
        tests = facts.get("test", {}).values()
        test_tokens = sum(
            one["tokens"] * min(1.0, (config.eval.max_samples or one["samples"]) / one["samples"]) for one in tests
        )
        return work_of(
            shape,
            config.train,
            lengths,
            each,
            self._hardware.device,
            steps=planned.derived.total_steps,
            test_tokens=test_tokens,
            milestones=len(planned.milestones.samples),
        )

    def work_alone(self, planned: PlannedCell, facts: Facts) -> Work | None:
        """Return a cell's work, or None where model or data do not tell."""
        shape, lengths = self.read(facts)
        if shape is None or lengths is None:
            return None
        each = self._batches(planned.cell.config.train, lengths, planned.derived.total_steps)
        return self.work(planned, facts, shape, lengths, each)

    def read(self, facts: Facts) -> tuple[ModelShape | None, Lengths | None]:
        """Return the sizes of the model and the lengths of the data, None where the facts do not tell."""
        if id(facts) not in self._shapes:
            model = facts.get("model", {})
            shape = shape_of(model.get("config", {}))
            shape = shape.with_parameters(model.get("parameters")) if shape is not None else None
            self._shapes[id(facts)] = shape, Lengths.of(facts)
        return self._shapes[id(facts)]

    def _batches(self, train: TrainConfig, lengths: Lengths, steps: int, max_tokens: int | None = None) -> Batches:
        limit = max_tokens or train.max_tokens_per_rank
        key = (id(lengths), train.batch_size, train.ranks, limit, steps)
        if key not in self._known_batches:
            self._known_batches[key] = batches(
                lengths, batch_size=train.batch_size, ranks=train.ranks, max_tokens=limit, steps=steps
            )
        return self._known_batches[key]

    def _at(self, shape: ModelShape, train: TrainConfig, lengths: Lengths, steps: int, max_tokens: int) -> Memory:
        largest = self._batches(train, lengths, steps, max_tokens).largest
        found = estimate(shape, train, largest, "cuda" if self._hardware.is_gpu else "cpu")
        return found.scaled(self._memory_factor)

    def _fit(self, shape: ModelShape, train: TrainConfig, lengths: Lengths, steps: int) -> tuple[Memory, Choice | None]:
        """Return the memory as the cell is configured, and the largest micro-batches that fit."""
        memory = self._at(shape, train, lengths, steps, train.max_tokens_per_rank)
        room = self._hardware.device.memory
        if room is None:
            return memory, None
        for max_tokens in _token_limits(train, lengths, steps):
            if self._at(shape, train, lengths, steps, max_tokens).device <= room:
                accumulation = self._batches(train, lengths, steps, max_tokens).micro_batches
                return memory, Choice(max_tokens_per_rank=max_tokens, accumulation=accumulation)
        return memory, None

    def _too_large(
        self,
        shape: ModelShape,
        train: TrainConfig,
        lengths: Lengths,
        memory: Memory,
        choice: Choice | None,
        planned: PlannedCell,
    ) -> str | None:
        room = self._hardware.device.memory
        if room is None or memory.device <= room:
            return None
        need = f"needs {memory.device / GIB:.1f} GiB a rank, {self._hardware.device.name} has {room / GIB:.1f}"
        if choice is not None:
            return f"{need}: set train.max_tokens_per_rank: {choice.max_tokens_per_rank}"
        for change, other in _others(train):
            if self._fit(shape, other, lengths, planned.derived.total_steps)[1] is not None:
                return f"{need}: it would fit with {change}"
        return need


def _token_limits(train: TrainConfig, lengths: Lengths, steps: int) -> Iterator[int]:
    """Yield token limits from that of a single micro-batch down, each for more accumulation than the one before."""
    whole = batches(lengths, batch_size=train.batch_size, ranks=train.ranks, max_tokens=10**9, steps=steps)
    step, parts = 1, 1
    while True:
        limit = -(-whole.largest.tokens // parts)
        # In whole hundreds, and no less than the longest sample.
        limit = max(-(-limit // 256) * 256, int(lengths.longest))
        yield limit
        if limit <= lengths.longest or parts >= train.batch_size:
            return
        step = max(1, parts // 4)
        parts += step


def _others(train: TrainConfig) -> Sequence[tuple[str, TrainConfig]]:
    """Return other layouts of the same training, the least change first."""
    found = []
    if not train.activation_checkpointing:
        train = dataclasses.replace(train, activation_checkpointing=True)
        found.append(("train.activation_checkpointing", train))
    ranks = train.ranks
    while ranks < MOST_SHARDS and ranks < train.batch_size:
        ranks *= 2
        engine = "fsdp" if train.engine == "single" else train.engine
        shards = ranks if train.shard_ranks else None
        more = dataclasses.replace(train, ranks=ranks, engine=engine, shard_ranks=shards)
        found.append((f"train.activation_checkpointing and train.ranks: {count(ranks)}", more))
    if train.lora is None:
        found.append(("train.activation_checkpointing and train.lora", dataclasses.replace(train, lora=LoraConfig())))
    return found


def _what_memory_depends_on(train: TrainConfig) -> TrainConfig:
    """Return the config with all that memory does not depend on set to one value."""
    return dataclasses.replace(
        train,
        learning_rate=1.0,
        warmup_steps=None,
        warmup_samples=None,
        warmup_ratio=None,
        schedule="constant",
        epochs=1.0,
        clip_norm=1.0,
        adam_beta1=0.9,
        adam_beta2=0.9,
        adam_eps=1e-8,
        weight_decay=0.0,
        seed=0,
    )
