"""``hf``: ``transformers.TrainingArguments`` as JSON, for a script that builds its own ``Trainer``."""

from __future__ import annotations

from collections.abc import Iterable

from sweeper.export import remarks
from sweeper.export.arguments import CHECKPOINTING, argument_notes, training_arguments
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe


def translate(recipe: Recipe) -> Draft:
    """Return the arguments; what is the script's to do (model, data, adapters) is named in the notes."""
    remarks.only_stacked(recipe, "Trainer")
    body = training_arguments(recipe) | {"run_name": recipe.folder}
    if not body[CHECKPOINTING]:
        # Off is the default; left out, older versions of transformers read the file as well.
        del body[CHECKPOINTING]
    return Draft(
        body=body,
        command="(args,) = HfArgumentParser(TrainingArguments).parse_json_file('{file}')\n"
        "# and start the script with: torchrun --nproc-per-node=" + str(recipe.gpus) + " SCRIPT.py",
        notes=tuple(_notes(recipe)),
    )


def _notes(recipe: Recipe) -> Iterable[str]:
    yield f"the script loads the model in float32: {recipe.model}"
    yield from remarks.model_source(recipe, "revision", "chat_template", "trust_remote_code")
    yield (
        f"the script reads {', '.join(recipe.data)}, puts it through the model's chat template and labels the tokens "
        "of the assistant's turns alone (everything else -100)"
    )
    data = recipe.config.data
    yield f"the script keeps to samples of at most {data.max_length} tokens; data.over_long was {data.over_long!r}"
    if recipe.lora is not None:
        lora = recipe.lora
        yield (
            f"the script trains adapters: peft.LoraConfig(r={lora.rank}, lora_alpha={lora.alpha:g}, "
            f"lora_dropout={lora.dropout:g}, target_modules={list(lora.target_modules)}, task_type='CAUSAL_LM')"
        )
    yield from remarks.builtins(recipe)
    yield from argument_notes(recipe)
