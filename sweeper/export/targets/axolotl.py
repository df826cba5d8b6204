"""``axolotl``: the YAML of ``axolotl train``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sweeper.core.config import ALL_LINEAR
from sweeper.core.errors import InputError
from sweeper.export import remarks
from sweeper.export.arguments import CHECKPOINTING, OLD_CHECKPOINTING, argument_notes, training_arguments, whole
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe, data_kind, named_split

_SAME = (
    *("gradient_accumulation_steps", "max_steps", "learning_rate", "lr_scheduler_kwargs", "warmup_steps"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm", "seed", "deepspeed"),
    *("output_dir", "logging_steps"),
)
"""Keys that axolotl hands to ``TrainingArguments`` under the same name."""
_OVER_LONG = {"refuse": "raise", "truncate": "truncate", "drop": "drop"}


def translate(recipe: Recipe) -> Draft:
    """Return a config with loss on the assistant's turns and no packing."""
    remarks.only_stacked(recipe, "axolotl")
    model, data, train = recipe.config.model, recipe.config.data, recipe.train
    found = training_arguments(recipe)
    body: dict[str, Any] = {"base_model": recipe.model}
    if model.revision is not None:
        body["revision_of_model"] = model.revision
    body |= {"trust_remote_code": model.trust_remote_code, **_chat_template(recipe), **_adapters(recipe)}
    body["datasets"] = [_data_set(path) for path in recipe.data]
    body |= {"sequence_len": data.max_length, "excess_length_strategy": _OVER_LONG[data.over_long]}
    body |= {"sample_packing": False, "pad_to_sequence_len": False, "train_on_inputs": False}
    body |= {"micro_batch_size": recipe.split.micro_batch, "num_epochs": float(train.epochs)}
    body |= {key: found[key] for key in _SAME if key in found}
    body |= {OLD_CHECKPOINTING: found[CHECKPOINTING]}
    body |= {"optimizer": found["optim"], "lr_scheduler": found["lr_scheduler_type"]}
    is_half = train.precision == "bf16"
    # `auto` would take bf16 wherever the GPU can.
    body |= {"bf16": is_half, "fp16": False, "tf32": False, "float32": not is_half}
    if "fsdp" in found:
        body |= {"fsdp_version": 2, "fsdp_config": _fsdp(recipe)}
    return Draft(
        body=body, command=f"axolotl train {{file}} --num-processes {recipe.gpus}", notes=tuple(_notes(recipe))
    )


def _chat_template(recipe: Recipe) -> dict[str, Any]:
    template = recipe.config.model.chat_template
    if template is None:
        return {"chat_template": "tokenizer_default"}
    return {"chat_template": "jinja", "chat_template_jinja": template}


def _fsdp(recipe: Recipe) -> dict[str, Any]:
    return {
        "offload_params": recipe.train.cpu_offload,
        "activation_checkpointing": recipe.train.activation_checkpointing,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "state_dict_type": "FULL_STATE_DICT",
        "reshard_after_forward": True,
    }


def _adapters(recipe: Recipe) -> dict[str, Any]:
    lora = recipe.lora
    if lora is None:
        return {}
    if not lora.alpha.is_integer():
        raise InputError("axolotl takes whole numbers only", where="train.lora.alpha", got=lora.alpha)
    found = {"adapter": "lora", "lora_r": lora.rank, "lora_alpha": whole(lora.alpha), "lora_dropout": lora.dropout}
    if ALL_LINEAR in lora.target_modules:
        return found | {"lora_target_linear": True}
    return found | {"lora_target_modules": list(lora.target_modules)}


def _data_set(path: str) -> dict[str, Any]:
    kind = data_kind(path)
    found: dict[str, Any] = {"path": path, "ds_type": kind} if kind is not None else {}
    if kind is None:
        found = dict(zip(("path", "split"), named_split(path), strict=True))
    roles = {"roles_to_train": ["assistant"], "train_on_eos": "turn"}
    return found | {"type": "chat_template", "field_messages": "messages", **roles}


def _notes(recipe: Recipe) -> Iterable[str]:
    if recipe.config.data.over_long == "refuse":
        yield "data.over_long: a sample that is too long ends the run when data is prepared, as in the sweep"
    if recipe.train.precision == "bf16":
        yield "precision: axolotl loads the weights in bf16 and trains them so; in the sweep they were fp32"
    yield from remarks.builtins(recipe)
    yield from argument_notes(recipe)
