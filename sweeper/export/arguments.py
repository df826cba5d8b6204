"""``transformers.TrainingArguments``, which Hugging Face's trainers and those built on them share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sweeper.export import remarks
from sweeper.export.recipe import Recipe
from sweeper.export.schedules import transformers_schedule

CHECKPOINTING: Final = "activation_checkpointing"
"""The argument's name in transformers 5.23, where ``OLD_CHECKPOINTING`` still works with a warning; 5.17 has the old
one alone."""
OLD_CHECKPOINTING: Final = "gradient_checkpointing"


def training_arguments(recipe: Recipe) -> dict[str, Any]:
    """Return what the trial's training is in ``TrainingArguments``, everything else left at its default.

    The loss is normalised by the loss tokens of the whole effective batch as ours is: Trainer counts them over all
    micro-batches, and over all devices by ``average_tokens_across_devices``.
    """
    train, split = recipe.train, recipe.split
    schedule = transformers_schedule(recipe)
    found: dict[str, Any] = {
        "output_dir": recipe.folder,
        "per_device_train_batch_size": split.micro_batch,
        "gradient_accumulation_steps": split.accumulation,
        "max_steps": recipe.numbers.total_steps,
        "num_train_epochs": float(train.epochs),
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": schedule.name,
        "warmup_steps": schedule.warmup_steps,
        "optim": "adamw_torch",
        "adam_beta1": train.adam_beta1,
        "adam_beta2": train.adam_beta2,
        "adam_epsilon": train.adam_eps,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.clip_norm,
        "bf16": train.precision == "bf16",
        "fp16": False,
        "seed": train.seed,
        "data_seed": train.seed,
        "average_tokens_across_devices": True,
        "logging_steps": 1,
    }
    if schedule.options:
        found["lr_scheduler_kwargs"] = dict(schedule.options)
    return found | sharding(recipe)


def sharding(recipe: Recipe) -> dict[str, Any]:
    """Return how the model lies on the GPUs, which decides no numbers."""
    train = recipe.train
    found: dict[str, Any] = {}
    if train.engine == "deepspeed":
        found["deepspeed"] = deepspeed_section(recipe, auto=True)
    elif train.engine == "fsdp" and recipe.gpus > 1:
        found["fsdp"] = True
        found["fsdp_config"] = {
            "version": 2,
            "cpu_offload": train.cpu_offload,
            "activation_checkpointing": train.activation_checkpointing,
        }
    # FSDP's own comes without a second gathering of the weights. Said either way: trl's default is on.
    return found | {CHECKPOINTING: train.activation_checkpointing and "fsdp" not in found}


def deepspeed_section(recipe: Recipe, *, auto: bool) -> dict[str, Any]:
    """Return a DeepSpeed config without optimizer and schedule; ``auto`` lets the trainer fill in the numbers."""
    train, split = recipe.train, recipe.split
    zero: dict[str, Any] = {"stage": train.zero_stage}
    if train.cpu_offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if train.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    numbers: dict[str, Any] = {
        "train_batch_size": "auto" if auto else train.batch_size,
        "train_micro_batch_size_per_gpu": "auto" if auto else split.micro_batch,
        "gradient_accumulation_steps": "auto" if auto else split.accumulation,
        "gradient_clipping": "auto" if auto else train.clip_norm,
        "bf16": {"enabled": "auto" if auto else train.precision == "bf16"},
    }
    return {**numbers, "zero_optimization": zero, "zero_allow_untested_optimizer": True}


def argument_notes(recipe: Recipe) -> Iterable[str]:
    """Say where a Trainer's training differs from the sweep's whatever its config."""
    yield remarks.order()
    yield from remarks.last_of_pass(recipe)
    note = transformers_schedule(recipe).note
    if note:
        yield note
    yield from remarks.decay_of_all_weights(recipe)
    yield remarks.rows_padded()
    if recipe.train.engine == "fsdp":
        yield from remarks.layout(recipe, names=["shard_ranks"])
        if recipe.gpus == 1 and recipe.train.cpu_offload:
            yield from remarks.layout(recipe, names=["cpu_offload"])


def whole(value: float) -> float:
    """Return an integer where the value is one: fields declared ``int`` take 32, not 32.0."""
    return int(value) if float(value).is_integer() else value
