"""From a ``builtin:`` path to a folder or file on disk, made on first use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from sweeper.core.config import BUILTIN_PREFIX
from sweeper.core.decode import nearest
from sweeper.core.errors import InputError
from sweeper.core.layout import cache_root
from trials.world.cache import made_once
from trials.world.datasets import World
from trials.world.language import Sample
from trials.world.spec import WORLDS, WorldSpec

DATA_SETS: Mapping[str, Callable[[World], list[Sample]]] = {"train": World.train, "new": World.new, "old": World.old}


def resolve(path: str) -> Path:
    """Return where a builtin model or data set lies, making it first if need be. Never touches the network.

    ``builtin:NAME`` is a model folder for ``AutoModelForCausalLM`` and ``AutoTokenizer`` (made in about half a
    minute on one core); ``builtin:NAME/train``, ``/new`` and ``/old`` are chat JSONL files (made in less than a
    second, without torch).

    Raises:
        InputError: there is no such world or data set.
    """
    known = known_paths()
    if path not in known:
        raise InputError("no such builtin model or data set", where="path", got=path, mend=nearest(path, known))
    name, _, part = path.removeprefix(BUILTIN_PREFIX).partition("/")
    spec = WORLDS[name]
    return make_data(spec) / f"{part}.jsonl" if part else make_model(spec)


def known_paths() -> tuple[str, ...]:
    """Return every path that ``resolve`` accepts."""
    return tuple(BUILTIN_PREFIX + name + part for name in WORLDS for part in ("", *(f"/{key}" for key in DATA_SETS)))


def make_data(spec: WorldSpec) -> Path:
    """Return the folder of a world's data sets, made if it is not there."""

    def make(folder: Path) -> None:
        world = World(spec)
        for name, samples in DATA_SETS.items():
            lines = [json.dumps(sample.to_json()) + "\n" for sample in samples(world)]
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")

    return made_once(_home(spec) / "data", make)


def make_model(spec: WorldSpec) -> Path:
    """Return the folder of a world's model and tokenizer, made if it is not there."""

    def make(folder: Path) -> None:
        print(
            f"making the {spec.name} model: about half a minute, once, kept in {_home(spec)}",
            file=sys.stderr,
            flush=True,
        )
        # Imported here because data sets are also asked for where torch is not loaded, and loading it takes seconds.
        from trials.world.pretrain import pretrain, save
        from trials.world.tokenizer import train_tokenizer

        world = World(spec)
        tokenizer = train_tokenizer(world)
        save(pretrain(world, tokenizer), tokenizer, folder)

    return made_once(_home(spec) / "model", make)


def _home(spec: WorldSpec) -> Path:
    return cache_root() / "worlds" / f"{spec.name}-{spec.fingerprint()}"
