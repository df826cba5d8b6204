"""The targets of ``sweeper export --to``, one module each: a pure function from a recipe to a config in its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sweeper.export.draft import Draft, Syntax
from sweeper.export.recipe import Recipe
from sweeper.export.targets import (
    accelerate,
    axolotl,
    deepspeed,
    hf,
    llamafactory,
    own,
    torchrun,
    torchtune,
    training_hub,
    trl,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One format."""

    translate: Callable[[Recipe], Draft]
    syntax: Syntax
    what: str
    """What is written, in a few words."""


TARGETS: Final[Mapping[str, Target]] = {
    "yaml": Target(translate=own.translate, syntax="yaml", what="config of python -m trials"),
    "torchrun": Target(translate=torchrun.translate, syntax="shell", what="script that trains it with torchrun"),
    "hf": Target(translate=hf.translate, syntax="json", what="transformers.TrainingArguments"),
    "trl": Target(translate=trl.translate, syntax="yaml", what="config of trl sft"),
    "axolotl": Target(translate=axolotl.translate, syntax="yaml", what="config of axolotl train"),
    "llamafactory": Target(translate=llamafactory.translate, syntax="yaml", what="config of llamafactory-cli train"),
    "training-hub": Target(translate=training_hub.translate, syntax="yaml", what="config of thub sft (instructlab)"),
    "torchtune": Target(translate=torchtune.translate, syntax="yaml", what="config of tune run"),
    "accelerate": Target(translate=accelerate.translate, syntax="yaml", what="config of accelerate launch"),
    "deepspeed": Target(translate=deepspeed.translate, syntax="json", what="DeepSpeed's config"),
}
