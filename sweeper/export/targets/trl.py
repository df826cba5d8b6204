"""``trl``: the YAML of ``trl sft --config``: ``SFTConfig``, model, adapters and data in one file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sweeper.export import remarks
from sweeper.export.arguments import argument_notes, training_arguments, whole
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe, data_kind, named_split


def translate(recipe: Recipe) -> Draft:
    """Return everything that ``trl sft`` needs; loss on the assistant's tokens, packing off."""
    remarks.only_stacked(recipe, "TRL")
    model = recipe.config.model
    body: dict[str, Any] = {"model_name_or_path": recipe.model, "dtype": "float32"}
    if model.revision is not None:
        body["model_revision"] = model.revision
    body["trust_remote_code"] = model.trust_remote_code
    if model.chat_template is not None:
        body["chat_template_path"] = model.chat_template
    body |= _adapters(recipe)
    body["datasets"] = [_data_set(path) for path in recipe.data]
    body |= {"max_length": recipe.config.data.max_length, "assistant_only_loss": True, "packing": False}
    body |= {"padding_free": False, "loss_type": "nll"}
    body |= training_arguments(recipe) | {"run_name": recipe.folder}
    return Draft(body=body, command=_command(recipe), notes=tuple(_notes(recipe)))


def _adapters(recipe: Recipe) -> dict[str, Any]:
    lora = recipe.lora
    if lora is None:
        return {}
    return {
        "use_peft": True,
        "lora_r": lora.rank,
        "lora_alpha": whole(lora.alpha),
        "lora_dropout": lora.dropout,
        "lora_target_modules": list(lora.target_modules),
    }


def _data_set(path: str) -> dict[str, Any]:
    kind = data_kind(path)
    if kind is not None:
        return {"path": kind, "data_files": path, "split": "train", "columns": ["messages"]}
    name, split = named_split(path)
    return {"path": name, "split": split, "columns": ["messages"]}


def _command(recipe: Recipe) -> str:
    if recipe.gpus == 1:
        return "trl sft --config {file}"
    return f"accelerate launch --num_processes {recipe.gpus} -m trl.scripts.sft --config {{file}}"


def _notes(recipe: Recipe) -> Iterable[str]:
    yield from remarks.over_long(recipe, "truncate")
    yield (
        "answers are found by the {% generation %} marks of the chat template; one without them is replaced by TRL's "
        "own training template, or refused"
    )
    yield from remarks.builtins(recipe)
    yield from argument_notes(recipe)
