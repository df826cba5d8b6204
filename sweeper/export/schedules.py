"""Our learning-rate schedules in the words of transformers, which most trainers share; and where the two differ.

Both warm up linearly over W steps, but ours takes step i at (i + 1) / W of the peak and transformers' at i / W: its
first step moves nothing. Only ``warmup_stable_decay`` can begin above 0, by its floor: with the floor at 1 / W and
W - 1 steps of warmup it takes step i at (i + 1) / W. The floor holds for the decay as well, so a decay that ends below
1 / W of the peak is cut short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.core.errors import InputError
from sweeper.core.space import short_number
from sweeper.export.recipe import Recipe

WSD_DECAY_SHARE = 0.1
"""Share of all steps over which ``wsd`` decays, as in ``trials.schedule``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersSchedule:
    """Arguments of ``transformers.get_scheduler``."""

    name: str
    warmup_steps: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    """How rates differ from the sweep's; empty where they are the same at every step."""


def transformers_schedule(recipe: Recipe) -> TransformersSchedule:
    """Return the schedule whose rates come nearest; the same at every step but for ``note``.

    Raises:
        InputError: ``wsd`` would decay before warmup ends.
    """
    schedule, total = recipe.train.schedule, recipe.numbers.total_steps
    # One step of warmup is taken at the peak: it is none.
    warmup = recipe.numbers.warmup_steps if recipe.numbers.warmup_steps > 1 else 0
    if schedule == "constant":
        return _held(warmup, total, 0) if warmup else TransformersSchedule(name="constant")
    if schedule == "wsd":
        return _held(warmup, total, math.ceil(WSD_DECAY_SHARE * total))
    if warmup:
        return TransformersSchedule(name=schedule, warmup_steps=warmup, note=late_note(recipe, warmup))
    note = f"learning rate: it falls over {total} steps, in the sweep over {total - 1} after one step at the peak"
    return TransformersSchedule(name=schedule, note=note if recipe.numbers.warmup_steps else "")


def rise(recipe: Recipe, warmup: int) -> str:
    """Return by how much each of ``warmup`` steps lifts the rate, as text."""
    return short_number(float(f"{recipe.train.learning_rate / warmup:.3g}"))


def late_note(recipe: Recipe, warmup: int) -> str:
    """Return how a warmup that begins at 0 differs from ours."""
    lower = rise(recipe, warmup)
    return (
        f"learning rate: warmup step i of {warmup}, counted from 0, is taken at i/{warmup} of the peak, in the sweep "
        f"at (i+1)/{warmup}; the first step moves nothing and the rest of the warmup lies {lower} lower"
    )


def _held(warmup: int, total: int, decay: int) -> TransformersSchedule:
    if warmup and warmup > total - decay:
        raise InputError(
            f"warmup of {warmup} steps reaches into the decay of schedule wsd, the last {decay} of {total} steps",
            where="train.schedule",
            got="wsd",
        )
    if not warmup:
        options: dict[str, Any] = {"num_decay_steps": decay, "decay_type": "linear", "min_lr_ratio": 0.0}
        return TransformersSchedule(name="warmup_stable_decay", options=options)
    floor = 1 / warmup
    options = {"num_decay_steps": 0, "decay_type": "linear", "min_lr_ratio": floor}
    if decay:
        # The fall from 1 to the floor, at the pace of a fall from 1 to 0 over all of the decay.
        options |= {"num_decay_steps": decay * (1 - floor), "num_stable_steps": total - decay - (warmup - 1)}
    note = ""
    if decay > warmup:
        note = (
            f"learning rate: the last steps are taken at 1/{warmup} of the peak; in the sweep they fell to 1/{decay} "
            "(a warmup that begins above 0 and a decay to 0 cannot both be said)"
        )
    return TransformersSchedule(name="warmup_stable_decay", warmup_steps=warmup - 1, options=options, note=note)
