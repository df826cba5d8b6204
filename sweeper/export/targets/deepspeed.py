"""``deepspeed``: DeepSpeed's JSON, for ``deepspeed.initialize(config=...)``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sweeper.core.errors import InputError
from sweeper.export import remarks
from sweeper.export.arguments import deepspeed_section
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe
from sweeper.export.schedules import rise
from sweeper.export.spoken import left_to_script

SHORTEST_WARMUP = 2
"""DeepSpeed's schedules warm up over at least so many steps."""


def translate(recipe: Recipe) -> Draft:
    """Return batch, optimizer, schedule, clipping, precision and ZeRO; the rest is the script's.

    Raises:
        InputError: the schedule is ``wsd``, which DeepSpeed has not.
    """
    remarks.only_stacked(recipe, "a training script under DeepSpeed")
    train = recipe.train
    body: dict[str, Any] = deepspeed_section(recipe, auto=False)
    body["optimizer"] = {
        "type": "AdamW",
        "params": {
            "lr": train.learning_rate,
            "betas": [train.adam_beta1, train.adam_beta2],
            "eps": train.adam_eps,
            "weight_decay": train.weight_decay,
            # torch's AdamW, as in the sweep: DeepSpeed's own is compiled and rounds differently.
            "torch_adam": True,
        },
    }
    schedule = _schedule(recipe)
    if schedule is not None:
        body["scheduler"] = schedule
    command = f"deepspeed --num_gpus {recipe.gpus} SCRIPT.py --deepspeed_config {{file}}"
    return Draft(body=body, command=command, notes=tuple(_notes(recipe)))


def _schedule(recipe: Recipe) -> dict[str, Any] | None:
    train, numbers = recipe.train, recipe.numbers
    warmup = max(SHORTEST_WARMUP, numbers.warmup_steps)
    peak = {"warmup_min_lr": 0.0, "warmup_max_lr": train.learning_rate}
    common = {"warmup_num_steps": warmup, "warmup_type": "linear"}
    total = {"total_num_steps": numbers.total_steps}
    if train.schedule == "constant":
        return {"type": "WarmupLR", "params": peak | common} if numbers.warmup_steps > 1 else None
    if train.schedule == "linear":
        return {"type": "WarmupDecayLR", "params": total | peak | common}
    if train.schedule == "cosine":
        ratios = {"warmup_min_ratio": 0.0, "cos_min_ratio": 0.0}
        return {"type": "WarmupCosineLR", "params": total | ratios | common}
    raise InputError("DeepSpeed has no such schedule", where="train.schedule", got=train.schedule, mend="use --to trl")


def _notes(recipe: Recipe) -> Iterable[str]:
    schedule = _schedule(recipe)
    if schedule is not None:
        warmup = schedule["params"]["warmup_num_steps"]
        lower = rise(recipe, warmup)
        yield (
            f"learning rate: DeepSpeed warms up over {warmup} steps, from 0 and one step late ({lower} lower at each), "
            f"in the sweep over {recipe.numbers.warmup_steps}; after it rates are those of the step before or after"
        )
    yield (
        "loss: DeepSpeed averages over forward passes; the script divides each by the loss tokens of the whole "
        "effective batch, times ranks and accumulation, as python -m trials does"
    )
    yield from left_to_script(recipe, clip=False, optimizer=False)
    names = ["activation_checkpointing", *(["shard_ranks"] if recipe.train.shard_ranks else [])]
    if recipe.train.engine != "deepspeed":
        yield (
            f"memory: ZeRO stage {recipe.train.zero_stage} stands for the sweep's engine {recipe.train.engine}; it "
            "changes no numbers beyond rounding"
        )
    yield from remarks.layout(recipe, names=names)
