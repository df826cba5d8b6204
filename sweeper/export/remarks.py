"""Sentences on what a target cannot say, each with the numbers of the trial at hand. Nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterable

from sweeper.core.errors import InputError
from sweeper.export.recipe import Recipe


def only_stacked(recipe: Recipe, target: str) -> None:
    """Raise InputError for phased training, which only ``python -m trials`` knows."""
    data = recipe.config.data
    if data.strategy == "phased":
        raise InputError(
            f"{target} trains on all data mixed; this trial trained in phases",
            where="data.strategy",
            got="phased",
            mend="use --to torchrun or --to yaml",
        )


def order() -> str:
    return "samples come in another order: each program makes its own permutation of the seed"


def last_of_pass(recipe: Recipe) -> Iterable[str]:
    """Say which steps take fewer samples where a pass over the data is no multiple of the batch."""
    batch_size, samples = recipe.train.batch_size, recipe.train_samples
    rest = samples % batch_size
    if rest and recipe.numbers.planned_samples >= samples:
        yield (
            f"effective batch: the last step of each pass takes {rest} samples, as {samples} is no multiple of "
            f"{batch_size}; in the sweep that batch went on into the next pass"
        )


def over_long(recipe: Recipe, does: str) -> Iterable[str]:
    """Say so where a sample beyond ``max_length`` meets another fate: ``does`` is what the target does with one."""
    wanted = recipe.config.data.over_long
    if wanted != does:
        yield (
            f"data.over_long: a sample of more than {recipe.config.data.max_length} tokens meets {does!r} here and "
            f"{wanted!r} in the sweep"
        )


def decay_of_all_weights(recipe: Recipe) -> Iterable[str]:
    if recipe.train.weight_decay:
        yield "weight decay leaves out biases and norms; in the sweep it acted on every weight"


def builtins(recipe: Recipe) -> Iterable[str]:
    if recipe.builtins:
        yield (
            f"{', '.join(dict.fromkeys(recipe.builtins))} are made by sweeper; the paths are those of this machine "
            "(another: python -m trials.world)"
        )


def rows_padded() -> str:
    return (
        "samples lie in padded rows, in the sweep packed without seeing each other: the same loss, slower; packing "
        "here would change how many samples a step takes"
    )


def layout(recipe: Recipe, *, names: Iterable[str] = ()) -> Iterable[str]:
    """Name what was set about how the model lies on the GPUs and is not said here; it decides no numbers.

    Args:
        recipe: the trial.
        names: the keys of ``train`` that this target does not say.
    """
    train = recipe.train
    stage = f", zero_stage {train.zero_stage}" if train.engine == "deepspeed" else ""
    set_to = {
        "engine": f"engine {train.engine}{stage}",
        "shard_ranks": f"shard_ranks {train.shard_ranks}" if train.shard_ranks else "",
        "activation_checkpointing": "activation_checkpointing" if train.activation_checkpointing else "",
        "cpu_offload": "cpu_offload" if train.cpu_offload else "",
    }
    left = [set_to[name] for name in names if set_to[name]]
    if left:
        yield f"memory: set up here as you like, in the sweep {'; '.join(left)}; it changes no numbers beyond rounding"


def model_source(recipe: Recipe, *keys: str) -> Iterable[str]:
    """Name which of ``revision``, ``chat_template`` and ``trust_remote_code`` are set and not said here."""
    model = recipe.config.model
    given = {key: getattr(model, key) for key in keys if getattr(model, key)}
    if given:
        yield "not said here: " + ", ".join(f"model.{key} {value}" for key, value in given.items())
