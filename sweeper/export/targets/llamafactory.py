"""``llamafactory``: the YAML of ``llamafactory-cli train``, and the ``dataset_info.json`` that it finds data by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sweeper.core.config import ALL_LINEAR
from sweeper.core.errors import InputError
from sweeper.export import remarks
from sweeper.export.arguments import CHECKPOINTING, argument_notes, training_arguments, whole
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe, data_kind, named_split

DATA_FOLDER = "llamafactory_data"
"""Folder of ``dataset_info.json``, beside the config."""
_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "system_tag": "system",
}


def translate(recipe: Recipe) -> Draft:
    """Return stage ``sft`` with loss on all of the assistant's turns and no packing."""
    remarks.only_stacked(recipe, "LLaMA-Factory")
    model = recipe.config.model
    body: dict[str, Any] = {"stage": "sft", "do_train": True, "model_name_or_path": recipe.model}
    if model.revision is not None:
        body["model_revision"] = model.revision
    body["trust_remote_code"] = model.trust_remote_code
    body |= _adapters(recipe)
    sets = {f"train_{place}": _data_set(path) for place, path in enumerate(recipe.data)}
    body |= {"dataset_dir": DATA_FOLDER, "dataset": ",".join(sets), "cutoff_len": recipe.config.data.max_length}
    body |= {"train_on_prompt": False, "mask_history": False, "packing": False, "neat_packing": False}
    found = training_arguments(recipe)
    body |= {key: value for key, value in found.items() if key != CHECKPOINTING}
    # LLaMA-Factory has a switch of its own, on by default, in place of Trainer's.
    body["disable_gradient_checkpointing"] = not found[CHECKPOINTING]
    body |= {"pure_bf16": False, "run_name": recipe.folder, "report_to": "none"}
    return Draft(
        body=body,
        command=f"FORCE_TORCHRUN={int(recipe.gpus > 1)} NPROC_PER_NODE={recipe.gpus} llamafactory-cli train {{file}}",
        notes=tuple(_notes(recipe)),
        companions={f"{DATA_FOLDER}/dataset_info.json": sets},
    )


def _adapters(recipe: Recipe) -> dict[str, Any]:
    lora = recipe.lora
    if lora is None:
        return {"finetuning_type": "full"}
    if not lora.alpha.is_integer():
        raise InputError("LLaMA-Factory takes whole numbers only", where="train.lora.alpha", got=lora.alpha)
    target = "all" if ALL_LINEAR in lora.target_modules else ",".join(lora.target_modules)
    return {
        "finetuning_type": "lora",
        "lora_rank": lora.rank,
        "lora_alpha": whole(lora.alpha),
        "lora_dropout": lora.dropout,
        "lora_target": target,
    }


def _data_set(path: str) -> dict[str, Any]:
    common = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": _TAGS}
    if data_kind(path) is not None:
        return {"file_name": path, **common}
    name, split = named_split(path)
    return {"hf_hub_url": name, "split": split, **common}


def _notes(recipe: Recipe) -> Iterable[str]:
    yield f"data is found by {DATA_FOLDER}/dataset_info.json beside this file: start it in this folder"
    yield from remarks.over_long(recipe, "truncate")
    yield (
        "the chat template is guessed from the tokenizer's (no `template` is set): compare a sample's tokens, or name "
        "LLaMA-Factory's template of this model"
    )
    yield from remarks.model_source(recipe, "chat_template")
    if recipe.train.precision == "fp32":
        yield "precision: LLaMA-Factory computes in the dtype that the model is stored in, in the sweep in fp32"
    yield from remarks.builtins(recipe)
    yield from argument_notes(recipe)
