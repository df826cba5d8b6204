"""A rank that lives across trials: what is dear to make (process group, base weights, tokens) is made once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sweeper.core.config import TrainConfig, TrialConfig
from sweeper.core.decode import encode
from sweeper.core.errors import InputError, LifecycleError
from sweeper.core.measurement import Measurement
from sweeper.core.milestones import Milestones
from trials import checkpoint
from trials.base_weights import BaseWeights, load_base
from trials.checkpoint import Writer
from trials.corpus import load_data
from trials.data import TokenSet
from trials.engines.base import Engine
from trials.evaluation import Evaluation
from trials.gang import Gang, choose_device, connect, share_cores
from trials.loop import Trial
from trials.memory import reset_peak
from trials.oom import no_way_out
from trials.source import go_offline, model_folder


class TrialSession:
    """One rank of a gang. Every method is called on all ranks at once; trials follow each other on the same session."""

    def __init__(self, *, rank: int, world_size: int, device: str | None = None) -> None:
        """Prepare a rank; ``device`` empty means this process's GPU where there is one, else the CPU."""
        share_cores(world_size)
        self._gang = Gang(rank=rank, world_size=world_size, device=choose_device(device))
        self._trial: Trial | None = None
        self._warm = _Warm(self._gang)
        self._writer = Writer(self._gang)

    def connect(self, init_method: str) -> None:
        """Form the gang's process group at ``init_method`` (``tcp://host:port`` or ``env://``)."""
        connect(self._gang, init_method)

    def start(self, config: TrialConfig, milestones: Milestones | None = None) -> None:
        """Begin a trial from the base weights; whatever trial ran before is forgotten.

        Raises:
            InputError: model or data cannot be used, or the config asks for another number of ranks.
            OutOfMemory: the model and its optimizer do not fit.
        """
        self._trial = None
        go_offline(config.model, config.data)
        if config.train.ranks != self._gang.world_size:
            raise InputError(
                f"this gang has {self._gang.world_size} ranks", where="train.ranks", got=config.train.ranks
            )
        reset_peak(self._gang.device)
        train, tests = self._warm.data(config)
        check_fit(train, config.train.max_tokens_per_rank)
        with no_way_out("the model and its optimizer"):
            engine = self._warm.engine(config)
            torch.manual_seed(config.train.seed * self._gang.world_size + self._gang.rank)
            engine.reset(config.train)
        self._trial = Trial(
            config,
            milestones,
            train=train,
            evaluation=self._warm.evaluation(config, tests, engine),
            engine=engine,
            gang=self._gang,
        )

    def advance(self) -> Measurement | None:
        """Train to the next milestone; return the measurement on rank 0, None on the others.

        Non-finite losses are reported as they are, and training goes on.

        Raises:
            LifecycleError: no trial was started, or it is over.
            OutOfMemory: not even one sample per micro-batch fits; after it the session is to be closed.
        """
        measurement = self._started().advance()
        return measurement if self._gang.rank == 0 else None

    def save(self, folder: Path) -> None:
        """Begin to write a checkpoint of the trial, whole or not at all, to a folder that all ranks see.

        Comes back when training may go on; the checkpoint is there when the next ``save``, ``finish_saving`` or
        ``close`` has come back. With engine deepspeed it is there at once.

        Raises:
            RecordError: the checkpoint before this one could not be written.
        """
        self._started().save(folder, self._writer)

    def save_milestone(self, root: Path, *, keep: int) -> None:
        """Begin to write a checkpoint as ``save`` does, into ``root`` by the step's name; the newest ``keep`` stay."""
        self._started().save(checkpoint.path_of(root, self.step), self._writer, keep=keep)

    def finish_saving(self) -> None:
        """Wait until the checkpoint that was begun last is complete; raises as ``save`` does."""
        self._writer.finish()

    def load(self, folder: Path) -> None:
        """Go on where a checkpoint of the same trial was written; to be called right after ``start``.

        The number of ranks and the engine may differ from those that wrote it.

        Raises:
            InputError: there is no complete checkpoint, or it is of another trial.
        """
        self._writer.finish()
        self._started().load(folder)

    def load_newest(self, root: Path) -> bool:
        """Go on from the newest complete checkpoint that ``save_milestone`` wrote into ``root``; False where none is.

        Raises:
            InputError: it is of another trial.
        """
        self._writer.finish()
        folder = checkpoint.newest(root)
        if folder is not None:
            self._started().load(folder)
        return folder is not None

    @property
    def state_bytes(self) -> int:
        """What a checkpoint of this trial takes on disk, all ranks together, at most."""
        return self._started().state_bytes

    @property
    def step(self) -> int:
        """Optimizer steps done; the same on every rank."""
        return self._started().step

    @property
    def milestone(self) -> int:
        """Milestones passed; the same on every rank."""
        return self._started().milestone

    @property
    def is_over(self) -> bool:
        """Whether the trial has come to its end; the same on every rank."""
        return self._trial is not None and self._trial.is_over

    def save_weights(self, folder: Path) -> None:
        """Write the model as ``AutoModelForCausalLM.from_pretrained`` reads it, with its tokenizer.

        Adapters are merged into it, and also written on their own, to its folder ``adapter``.
        """
        self._warm.save_weights(folder)

    def _started(self) -> Trial:
        if self._trial is None:
            raise LifecycleError("no trial was started")
        return self._trial

    def close(self) -> None:
        """Wait for a checkpoint that is being written, and leave the process group; safe to repeat."""
        self._trial = None
        self._writer.close()
        if dist.is_initialized():
            dist.destroy_process_group()


def check_fit(train: TokenSet, max_tokens_per_rank: int) -> None:
    """Raise InputError where the longest sample does not fit into a micro-batch."""
    longest = int(train.lengths.max()) - 1
    if longest > max_tokens_per_rank:
        raise InputError(
            f"must hold the longest sample's {longest} tokens",
            where="train.max_tokens_per_rank",
            got=max_tokens_per_rank,
        )


class _Warm:
    """What outlives a trial, each thing kept as long as the next trial wants the same."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._kept: dict[str, tuple[str, Any]] = {}

    def data(self, config: TrialConfig) -> tuple[TokenSet, dict[str, TokenSet]]:
        """Return the training set, and the test sets by name, cut to the first ``eval.max_samples``."""
        key = _key(config.model, config.data)
        train, tests = self._keep("data", key, lambda: load_data(config))
        return train, {name: one.head(config.eval.max_samples) for name, one in tests.items()}

    def engine(self, config: TrialConfig) -> Engine:
        train = config.train
        key = _key(config.model, train.engine, train.precision, train.lora)
        key += _key(train.activation_checkpointing, train.cpu_offload, train.shard_ranks)
        if self._kept.get("engine", ("", None))[0] != key:
            self._kept.pop("engine", None)  # Free the old model before the new one is made.
        engine: Engine = self._keep("engine", key, lambda: make_engine(config, self._gang))
        self._config = config
        return engine

    def evaluation(self, config: TrialConfig, tests: dict[str, TokenSet], engine: Engine) -> Evaluation:
        key = _key(config.model, config.data, config.eval, config.train.max_tokens_per_rank, engine.layout)

        def make() -> Evaluation:
            from trials.model import load_tokenizer

            folder = model_folder(config.model)
            return Evaluation(
                config, tests, lambda: load_tokenizer(folder, config.model), engine=engine, gang=self._gang
            )

        made = self._keep("evaluation", key, make)
        assert isinstance(made, Evaluation)
        return made

    def save_weights(self, folder: Path) -> None:
        from trials.export import save_weights

        engine: Engine = self._kept["engine"][1]
        save_weights(engine.full_weights(), self._config, folder, self._gang)

    def _keep(self, name: str, key: str, make: Any) -> Any:
        if self._kept.get(name, ("", None))[0] != key:
            self._kept[name] = (key, make())
        return self._kept[name][1]


def make_engine(config: TrialConfig, gang: Gang) -> Engine:
    """Return the engine that the config names, with the base weights loaded; every rank of the gang must call it."""
    model, base = load_base(model_folder(config.model), config.model, gang)
    if config.train.lora is not None:
        from trials.lora import add_adapters

        add_adapters(model, config.train.lora)
    return wrap(model, gang, config.train, base)


def wrap(model: torch.nn.Module, gang: Gang, train: TrainConfig, base: BaseWeights | None = None) -> Engine:
    """Return the engine that trains this model as the config says; ``base`` as ``load_base`` gave it with the model."""
    if train.engine == "single":
        from trials.engines.single import SingleEngine

        return SingleEngine(model, gang, train.precision, base, checkpoints_activations=train.activation_checkpointing)
    if train.engine == "fsdp":
        from trials.engines.fsdp import FsdpEngine

        return FsdpEngine(
            model,
            gang,
            train.precision,
            base,
            checkpoints_activations=train.activation_checkpointing,
            offloads=train.cpu_offload,
            shard_ranks=train.shard_ranks,
        )
    from trials.engines.deepspeed import DeepspeedEngine

    return DeepspeedEngine(model, gang, train.precision, base)


def _key(*parts: object) -> str:
    return json.dumps([encode(part) for part in parts], sort_keys=True)
