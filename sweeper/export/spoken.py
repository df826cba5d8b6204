"""A trial's settings as words, for targets that leave them to the training script."""

from __future__ import annotations

from collections.abc import Iterable

from sweeper.core.figures import number
from sweeper.core.space import short_number
from sweeper.export import remarks
from sweeper.export.recipe import Recipe


def left_to_script(recipe: Recipe, *, clip: bool, optimizer: bool = True) -> Iterable[str]:
    """Yield everything that decides a trial's numbers and is neither batch nor layout.

    Args:
        recipe: the trial.
        clip: whether the gradient's largest norm is left to the script.
        optimizer: whether AdamW and the schedule are.
    """
    train, numbers, data = recipe.train, recipe.numbers, recipe.config.data
    if optimizer:
        yield (
            f"the script's AdamW: learning rate {short_number(train.learning_rate)}, betas {train.adam_beta1:g} and "
            f"{train.adam_beta2:g}, eps {short_number(train.adam_eps)}, weight decay "
            f"{short_number(train.weight_decay)} on every weight"
        )
        yield (
            f"the script's schedule: {train.schedule} after {numbers.warmup_steps} steps of linear warmup"
            + (f", step i from 0 at (i+1)/{numbers.warmup_steps} of the peak" if numbers.warmup_steps else "")
        )
    if clip:
        yield f"the script's largest gradient norm: {short_number(train.clip_norm)}" + (
            "" if train.clip_norm else " (no clipping)"
        )
    yield (
        f"the script trains {numbers.total_steps} steps ({short_number(train.epochs)} epochs of {recipe.train_samples} "
        f"samples) with seed {train.seed}; in the sweep a batch goes on into the next pass"
    )
    if train.precision == "bf16":
        yield "the script keeps the weights in float32 and computes in bf16"
    yield f"the script loads the model {recipe.model}"
    yield from remarks.model_source(recipe, "revision", "chat_template", "trust_remote_code")
    yield (
        f"the script reads {', '.join(recipe.data)}: samples of at most {data.max_length} tokens (a longer one: "
        f"{data.over_long}), loss on the assistant's tokens alone"
    )
    if recipe.lora is not None:
        lora = recipe.lora
        yield (
            f"the script trains adapters: rank {lora.rank}, alpha {number(lora.alpha)}, dropout {lora.dropout:g}, on "
            f"{', '.join(lora.target_modules)}"
        )
    yield from remarks.builtins(recipe)
