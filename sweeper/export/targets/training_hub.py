"""``training-hub``: the YAML of ``thub sft --config``, which trains with instructlab-training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sweeper.core.errors import InputError
from sweeper.export import remarks
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe, data_kind
from sweeper.export.schedules import late_note

CLIP_NORM = 1.0
"""instructlab-training's largest gradient norm; it cannot be set."""


def translate(recipe: Recipe) -> Draft:
    """Return algorithm ``sft``; instructlab packs micro-batches by ``max_tokens_per_gpu`` as sweeper does.

    Raises:
        InputError: the trial's schedule, precision, clipping, epochs, adapters or data cannot be said.
    """
    remarks.only_stacked(recipe, "instructlab-training")
    _refuse(recipe)
    train, model = recipe.train, recipe.config.model
    body: dict[str, Any] = {
        "model_path": recipe.model,
        "data_path": recipe.data[0],
        "ckpt_output_dir": recipe.folder,
        "num_epochs": int(train.epochs),
        "effective_batch_size": train.batch_size,
        "learning_rate": train.learning_rate,
        "warmup_steps": recipe.numbers.warmup_steps,
        # instructlab-training keeps what is shorter than this.
        "max_seq_len": recipe.config.data.max_length + 1,
        "max_tokens_per_gpu": train.max_tokens_per_rank,
        "beta1": train.adam_beta1,
        "beta2": train.adam_beta2,
        "eps": train.adam_eps,
        "weight_decay": train.weight_decay,
        "nproc_per_node": recipe.gpus,
        "nnodes": 1,
        # Two keys of instructlab's that thub hands through, with a warning.
        "random_seed": train.seed,
        "trust_remote_code": model.trust_remote_code,
    }
    return Draft(body=body, command="thub sft --config {file}", notes=tuple(_notes(recipe)))


def _refuse(recipe: Recipe) -> None:
    """Raise for what instructlab-training 0.16 decides by itself, in ``main_ds.py`` and ``accelerator.py``."""
    train = recipe.train
    wrong: list[tuple[str, object, str]] = []
    if train.schedule != "cosine":
        wrong.append(("train.schedule", train.schedule, "always falls by a cosine"))
    if train.precision != "bf16":
        wrong.append(("train.precision", train.precision, "always computes in bf16"))
    if train.clip_norm != CLIP_NORM:
        wrong.append(("train.clip_norm", train.clip_norm, f"always clips at {CLIP_NORM:g}"))
    if not float(train.epochs).is_integer():
        wrong.append(("train.epochs", train.epochs, "trains whole epochs"))
    if recipe.lora is not None:
        wrong.append(
            ("train.lora", recipe.lora.rank, "trains adapters with another program, whose schedule is its own")
        )
    if len(recipe.data) > 1 or data_kind(recipe.data[0]) is None:
        wrong.append(("data.train", list(recipe.data), "reads one file of chats"))
    if wrong:
        where, got, does = wrong[0]
        raise InputError(f"training-hub's sft {does}", where=where, got=got, mend="use --to trl or --to axolotl")


def _notes(recipe: Recipe) -> Iterable[str]:
    yield from remarks.over_long(recipe, "drop")
    if recipe.numbers.warmup_steps > 1:
        yield late_note(recipe, recipe.numbers.warmup_steps)
    yield (
        "loss is taken on the assistant's tokens that instructlab-training finds by its own unmasking, in its own or "
        "the tokenizer's chat template"
    )
    yield from remarks.model_source(recipe, "revision", "chat_template")
    yield remarks.order()
    yield from remarks.last_of_pass(recipe)
    yield from remarks.layout(recipe, names=["engine", "shard_ranks", "activation_checkpointing", "cpu_offload"])
    yield from remarks.builtins(recipe)
