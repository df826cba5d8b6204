"""``yaml``: our own config, which ``python -m trials`` trains to the same loss sequence."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from sweeper.core.config import TrialConfig
from sweeper.core.decode import encode
from sweeper.core.errors import InputError
from sweeper.core.program import fill_in
from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe

FORMAT = 1
"""Version of the exported file, under the key ``sweeper_format``."""


def translate(recipe: Recipe) -> Draft:
    """Return the config as it is, with another number of ranks where another number of GPUs is asked for."""
    notes: tuple[str, ...] = ()
    if recipe.gpus != recipe.train.ranks:
        notes = (f"{recipe.gpus} ranks instead of {recipe.train.ranks}: losses agree to rounding",)
    return Draft(body=plain_config(recipe), command=_command(recipe), notes=notes)


def _command(recipe: Recipe) -> str:
    """Return what trains the config again: the native trainer, or the user's own."""
    program = recipe.config.trial
    if program is None:
        return "python -m trials {file}"
    if program.command is None:
        return f"{program.function}, called on each rank with this config"
    places = {"python": "python", "config": "CONFIG.json", "output": "OUTPUT"}
    return shlex.join(fill_in(program, recipe.config, recipe.numbers, places)).replace("{", "{{").replace("}", "}}")


def plain_config(recipe: Recipe) -> dict[str, Any]:
    """Return the config for ``recipe.gpus`` ranks.

    Raises:
        InputError: the engine has a single rank, or groups of ranks do not divide that many.
    """
    if recipe.gpus == recipe.train.ranks:
        config = recipe.config
    elif recipe.train.engine == "single":
        raise InputError("engine 'single' has one rank", where="--gpus", got=recipe.gpus)
    else:
        config = with_ranks(recipe.config, recipe.gpus)
    return {"sweeper_format": FORMAT, **encode(config)}


def with_ranks(config: TrialConfig, ranks: int) -> TrialConfig:
    """Return the config on another number of ranks; raises ``InputError`` where ``shard_ranks`` does not divide it."""
    return replace(config, train=replace(config.train, ranks=ranks))
