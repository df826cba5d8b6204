"""``accelerate``: the YAML of ``accelerate launch --config_file``: how ranks share the model, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sweeper.export import remarks
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe
from sweeper.export.spoken import left_to_script


def translate(recipe: Recipe) -> Draft:
    """Return ranks, precision and sharding; all that decides the numbers is the script's and is named in the notes."""
    remarks.only_stacked(recipe, "a training script under accelerate")
    train = recipe.train
    body: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": _distributed_type(recipe),
        "num_machines": 1,
        "num_processes": recipe.gpus,
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": "bf16" if train.precision == "bf16" else "no",
        "use_cpu": False,
        "debug": False,
    }
    if body["distributed_type"] == "FSDP":
        body["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_offload_params": train.cpu_offload,
            "fsdp_activation_checkpointing": train.activation_checkpointing,
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
            "fsdp_cpu_ram_efficient_loading": True,
        }
    if body["distributed_type"] == "DEEPSPEED":
        body["deepspeed_config"] = _deepspeed(recipe)
    command = "accelerate launch --config_file {file} SCRIPT.py"
    return Draft(body=body, command=command, notes=tuple(_notes(recipe)))


def _distributed_type(recipe: Recipe) -> str:
    if recipe.train.engine == "deepspeed":
        return "DEEPSPEED"
    if recipe.gpus == 1:
        return "NO"
    return "FSDP" if recipe.train.engine == "fsdp" else "MULTI_GPU"


def _deepspeed(recipe: Recipe) -> dict[str, Any]:
    device = "cpu" if recipe.train.cpu_offload else "none"
    return {
        "zero_stage": recipe.train.zero_stage,
        "offload_optimizer_device": device,
        "offload_param_device": device if recipe.train.zero_stage == 3 else "none",
        "gradient_accumulation_steps": recipe.split.accumulation,
        "gradient_clipping": recipe.train.clip_norm,
        "zero3_init_flag": recipe.train.zero_stage == 3,
    }


def _notes(recipe: Recipe) -> Iterable[str]:
    split = recipe.split
    yield (
        f"effective batch: the script takes {split.micro_batch} samples a rank and forward pass and makes an optimizer "
        f"step after {split.accumulation} of them, the loss divided by the loss tokens of all {recipe.train.batch_size}"
    )
    yield from left_to_script(recipe, clip=recipe.train.engine != "deepspeed")
    if recipe.train.engine == "fsdp":
        yield from remarks.layout(recipe, names=["shard_ranks"] if recipe.gpus > 1 else _ALONE)
    else:
        yield from remarks.layout(recipe, names=["activation_checkpointing"])


_ALONE = ("engine", "shard_ranks", "activation_checkpointing", "cpu_offload")
