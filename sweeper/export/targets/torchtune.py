"""``torchtune``: the YAML of ``tune run``; model, tokenizer and checkpoint format are named by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sweeper.core.config import ALL_LINEAR
from sweeper.core.errors import InputError
from sweeper.export import remarks
from sweeper.export.arguments import whole
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe, data_kind, named_split
from sweeper.export.schedules import transformers_schedule

MISSING: Final = "???"
"""OmegaConf's mark of a value that must be given: ``tune`` ends with its key where it is not."""
_SCHEDULES = {
    "linear": "transformers.get_linear_schedule_with_warmup",
    "cosine": "transformers.get_cosine_schedule_with_warmup",
    "warmup_stable_decay": "transformers.get_wsd_schedule",
}
_ATTENTION = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "output_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj"}


def translate(recipe: Recipe) -> Draft:
    """Return the config of ``full_finetune_*`` or ``lora_finetune_*`` (torchtune 0.6)."""
    remarks.only_stacked(recipe, "torchtune")
    train, split = recipe.train, recipe.split
    passes, per_pass = _steps(recipe)
    body: dict[str, Any] = {
        "output_dir": recipe.folder,
        "model": {"_component_": MISSING, **_adapters(recipe)},
        "tokenizer": {"_component_": MISSING, "max_seq_len": recipe.config.data.max_length},
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": recipe.model,
            "checkpoint_files": MISSING,
            "recipe_checkpoint": None,
            "output_dir": recipe.folder,
            "model_type": MISSING,
        },
        "resume_from_checkpoint": False,
        "dataset": _data(recipe),
        "seed": train.seed,
        "shuffle": True,
        "batch_size": split.micro_batch,
        "gradient_accumulation_steps": split.accumulation,
        "epochs": passes,
        "max_steps_per_epoch": per_pass,
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "lr": train.learning_rate,
            "betas": [train.adam_beta1, train.adam_beta2],
            "eps": train.adam_eps,
            "weight_decay": train.weight_decay,
        },
        "optimizer_in_bwd": False,
        "lr_scheduler": _schedule(recipe),
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "clip_grad_norm": train.clip_norm or None,
        "dtype": train.precision,
        "device": "cuda",
        "compile": False,
        "enable_activation_checkpointing": train.activation_checkpointing,
        "enable_activation_offloading": False,
        "fsdp_cpu_offload": train.cpu_offload,
        "log_every_n_steps": 1,
        "log_peak_memory_stats": True,
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.DiskLogger",
            "log_dir": f"{recipe.folder}/logs",
        },
    }
    return Draft(body=body, command=_command(recipe), notes=tuple(_notes(recipe)))


def _command(recipe: Recipe) -> str:
    kind = "full_finetune" if recipe.lora is None else "lora_finetune"
    launch = f"--nproc_per_node {recipe.gpus} {kind}_distributed" if recipe.gpus > 1 else f"{kind}_single_device"
    return (
        f"tune run {launch} --config {{file}} \\\n"
        "  model._component_=... tokenizer._component_=... tokenizer.path=... \\\n"
        "  checkpointer.model_type=... checkpointer.checkpoint_files=[...]"
    )


def _steps(recipe: Recipe) -> tuple[int, int | None]:
    """Return passes and the steps of each; torchtune leaves out what is less than a batch at a pass's end."""
    total, most = recipe.numbers.total_steps, recipe.train_samples // recipe.train.batch_size
    passes = -(-total // most)
    return passes, None if passes * most == total else total // passes


def _data(recipe: Recipe) -> Any:
    sets = []
    for path in recipe.data:
        kind = data_kind(path)
        name, split = (kind, "train") if kind is not None else named_split(path)
        found: dict[str, Any] = {"_component_": "torchtune.datasets.chat_dataset", "source": name, "split": split}
        if kind is not None:
            found["data_files"] = path
        found |= {"conversation_column": "messages", "conversation_style": "openai"}
        sets.append(found | {"train_on_input": False, "packed": False})
    return sets[0] if len(sets) == 1 else sets


def _schedule(recipe: Recipe) -> dict[str, Any]:
    found = transformers_schedule(recipe)
    if found.name == "constant":
        return {"_component_": _SCHEDULES["warmup_stable_decay"], "num_warmup_steps": 0, "num_decay_steps": 0}
    return {"_component_": _SCHEDULES[found.name], "num_warmup_steps": found.warmup_steps, **found.options}


def _adapters(recipe: Recipe) -> dict[str, Any]:
    lora = recipe.lora
    if lora is None:
        return {}
    named = {*_ATTENTION, *_MLP} if ALL_LINEAR in lora.target_modules else set(lora.target_modules)
    if named - set(_ATTENTION) - _MLP or (named & _MLP and not named >= _MLP):
        raise InputError(
            f"torchtune knows {', '.join(_ATTENTION)} and {', '.join(sorted(_MLP))}, the latter all or none",
            where="train.lora.target_modules",
            got=list(lora.target_modules),
        )
    return {
        "lora_attn_modules": [ours for name, ours in _ATTENTION.items() if name in named],
        "apply_lora_to_mlp": named >= _MLP,
        "lora_rank": lora.rank,
        "lora_alpha": whole(lora.alpha),
        "lora_dropout": lora.dropout,
    }


def _notes(recipe: Recipe) -> Iterable[str]:
    yield "give the values marked ???: torchtune's names for this model, its tokenizer and its files"
    yield from remarks.model_source(recipe, "revision", "chat_template", "trust_remote_code")
    if recipe.config.model.chat_template is None:
        yield "samples are rendered by torchtune's own tokenizer of the model, not by the model's chat template"
    yield from remarks.over_long(recipe, "truncate")
    passes, per_pass = _steps(recipe)
    if passes * (per_pass or 0) != recipe.numbers.total_steps and per_pass is not None:
        yield (
            f"steps: {passes} passes of {per_pass} steps instead of {recipe.numbers.total_steps}; a pass ends with its "
            "last whole batch, in the sweep a batch goes on into the next pass"
        )
    elif recipe.train_samples % recipe.train.batch_size:
        yield "a pass ends with its last whole batch; in the sweep a batch goes on into the next pass"
    if transformers_schedule(recipe).note:
        yield transformers_schedule(recipe).note
    yield "the schedule is one of transformers', which torchtune does not install"
    if recipe.train.precision == "bf16":
        yield "precision: weights and AdamW's state are bf16 too; in the sweep they were fp32"
    yield remarks.order()
    yield remarks.rows_padded()
    yield from remarks.layout(recipe, names=["engine", "shard_ranks"])
    yield from remarks.builtins(recipe)
