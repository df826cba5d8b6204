"""A trainer of the user's own in place of the native one: how it is started, and what it is told of its cell."""

from __future__ import annotations

import dataclasses
import shlex
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from sweeper.core.decode import nearest
from sweeper.core.errors import InputError

if TYPE_CHECKING:
    from sweeper.core.config import TrainConfig, TrialConfig
    from sweeper.core.derive import Derived

OWN: Final = "(own)"
"""Stands for the model and the data where a trainer of the user's own brings them and the search space is silent."""
PER_RANK: Final = "batch_size_per_rank"
METRICS: Final = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "tokens_seen": "num_tokens",
    "heldout_loss": "eval_loss",
}
"""What ``transformers.Trainer`` and TRL's trainers call the numbers that they log, by our names."""
_STEP_METRICS: Final = ("loss", "grad_norm", "learning_rate", "tokens_seen")
_DERIVED: Final = ("warmup_steps", "total_steps", "planned_samples", "train_samples", PER_RANK)
_PLACES: Final = ("python", "config", "output", "ranks", "model.path")
_SETTINGS: Final = "settings."


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramConfig:
    """A trainer of your own: give ``function`` or ``command``. Without this section trials are native."""

    train_samples: int
    """Samples of one epoch, as your trainer counts them; with ``train.epochs`` it says where a trial ends."""
    function: str | None = None
    """``module:function``, called on every rank with the cell's config. Ranks find each other as under torchrun."""
    command: str | None = None
    """Started once for each trial, without a shell, with all GPUs of the trial in sight; it starts its ranks itself.
    Names in braces are filled in: any ``train`` key, ``{settings.NAME}``, ``{batch_size_per_rank}``,
    ``{total_steps}``, ``{planned_samples}``, ``{model.path}``, ``{python}``, ``{config}`` (a JSON file) and
    ``{output}`` (a folder for the trial's files)."""
    signals: Literal["report", "mlflow"] = "report"
    """``report``: the trainer calls ``sweeper.trial.report``, or has the callback. ``mlflow``: a command that knows
    nothing of sweeps and logs to MLflow, from where its numbers are read."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """With ``signals: mlflow``, what your trainer calls ``loss``, ``grad_norm``, ``learning_rate``, ``tokens_seen`` or
    a score, e.g. ``{grad_norm: train/gnorm, accuracy: eval_acc}``; what is not named is called as by
    ``transformers.Trainer`` and TRL (``heldout_loss`` is their ``eval_loss``)."""
    steps: Literal["optimizer_steps", "samples"] = "optimizer_steps"
    """With ``signals: mlflow``, what the steps of the logged metrics count."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values of your own that the trainer finds in its config; each may be an axis as ``settings.NAME``."""

    def __post_init__(self) -> None:
        if self.train_samples < 1:
            raise InputError("must be at least 1", where="train_samples", got=self.train_samples)
        if (self.function is None) == (self.command is None):
            raise InputError("give either function or command", got=[self.function, self.command])
        if self.function is not None:
            self._check_function(self.function)
        if self.command is not None:
            words(self.command)
        if self.signals == "report" and self.metrics:
            raise InputError("only signals: mlflow has it", where="metrics", got=dict(self.metrics))

    def _check_function(self, function: str) -> None:
        module, _, name = function.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), name]):
            raise InputError("must be MODULE:FUNCTION", where="function", got=function, mend="e.g. my_module:train")
        if self.signals == "mlflow":
            raise InputError("only a command has signals: mlflow", where="signals", got="mlflow")

    @property
    def names(self) -> dict[str, str]:
        """What the trainer calls each number, by our name of it."""
        return {**METRICS, **self.metrics}

    @property
    def score_names(self) -> dict[str, str]:
        """The part of ``names`` that are held-out scores."""
        return {ours: theirs for ours, theirs in self.names.items() if ours not in _STEP_METRICS}


def words(command: str) -> list[str]:
    """Return the words of a command as a shell would split it; raises ``InputError`` where it cannot be split."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise InputError(f"cannot be split into words: {error}", where="command", got=command) from error
    if not found:
        raise InputError("must not be empty", where="command", got=command)
    return found


def check_names(program: ProgramConfig, train_keys: Mapping[str, Any], settings: set[str]) -> None:
    """Raise ``InputError`` where the command has a name in braces that nothing fills in.

    Args:
        train_keys: the fields of ``TrainConfig``.
        settings: the names of all settings, axes included.
    """
    known = {*train_keys, *_DERIVED, *_PLACES, *(_SETTINGS + name for name in settings)}
    for name in placeholders(program):
        if name not in known:
            raise InputError(f"nothing fills in {{{name}}}", where="command", got=name, mend=nearest(name, known))


def placeholders(program: ProgramConfig) -> Iterator[str]:
    """Return the names in braces of the command; a doubled brace stands for itself."""
    for word in words(program.command) if program.command is not None else []:
        try:
            parts = list(string.Formatter().parse(word))
        except ValueError as error:
            raise InputError(f"not readable: {error}", where="command", got=word, mend="write {{ for {") from error
        for _, name, form, conversion in parts:
            if form or conversion:
                raise InputError("a name in braces takes no format", where="command", got=word)
            if name is not None:
                yield name


def fill_in(program: ProgramConfig, config: TrialConfig, derived: Derived, places: Mapping[str, str]) -> list[str]:
    """Return the words of the command with every name in braces replaced.

    Args:
        program: a checked one: its names are known.
        config: the cell's.
        derived: the cell's.
        places: ``python``, ``config`` and ``output``.

    Raises:
        InputError: a name stands for a key that this cell leaves empty.
    """
    assert program.command is not None
    train = config.train
    values: dict[str, Any] = {f.name: getattr(train, f.name) for f in dataclasses.fields(train)}
    values |= {f.name: getattr(derived, f.name) for f in dataclasses.fields(derived)}
    values |= {PER_RANK: train.batch_size // train.ranks, "model.path": config.model.path, **places}
    values |= {_SETTINGS + name: value for name, value in program.settings.items()}
    return [_filled(word, values) for word in words(program.command)]


def uneven_batch(program: ProgramConfig, train: TrainConfig) -> str | None:
    """Return why this cell's batch cannot be shared out over its ranks, where the command asks for a rank's share."""
    if train.batch_size % train.ranks == 0 or PER_RANK not in placeholders(program):
        return None
    return f"batch_size {train.batch_size} is no multiple of the {train.ranks} ranks, and the command asks for a share"


def processes_of(config: TrialConfig) -> int:
    """Return how many processes a gang is started with: one for each rank, or the one that starts all ranks."""
    return 1 if config.trial is not None and config.trial.command is not None else config.train.ranks


def _filled(word: str, values: Mapping[str, Any]) -> str:
    text = []
    for literal, name, _, _ in string.Formatter().parse(word):
        text.append(literal)
        if name is not None:
            if values[name] is None:
                raise InputError(f"{{{name}}} is empty in this cell", where="trial.command", got=word)
            text.append(str(values[name]))
    return "".join(text)
