"""``sweeper init``: asks for what it is not told, and writes a search space that runs as it is."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sweeper.core.config import BUILTIN_PREFIX, DataConfig, ModelConfig, TrainConfig, TrialConfig
from sweeper.core.errors import InputError
from sweeper.core.micro_batch import Lengths
from sweeper.core.shape import shape_of
from sweeper.init.advice import advise
from sweeper.init.layout import layout
from sweeper.init.write import space_text
from sweeper.planning.hardware import hardware

MOST_LENGTH: Final = 4096
"""Tokens beyond which samples are cut, unless the file is edited."""
_QUESTIONS: Final = {
    "model": "Model (a folder, a hub name, or builtin:quickstart)",
    "train": "Chats to train on (.jsonl, .parquet, or a data set's name)",
    "test": "Held-out chats (apart from those to train on)",
}


def execute(args: argparse.Namespace, ask: Callable[[str], str] = input) -> int:
    """Write the file and return the exit code.

    Raises:
        InputError: something is not told and there is no terminal to ask at, or model or data cannot be used.
    """
    if args.out.exists():
        raise InputError("the file exists already", where="--out", got=str(args.out), mend="choose another name")
    told = {key: getattr(args, key) or _asked(key, ask) for key in _QUESTIONS}
    where = hardware(args.gpu, args.gpu_memory_gb, args.gpus)
    facts = _facts(told)
    model = facts.get("model", {})
    shape = shape_of(model.get("config", {}))
    shape = shape.with_parameters(model.get("parameters")) if shape is not None else None
    lengths = Lengths.of(facts)
    assert lengths is not None
    advice = advise(int(facts["train_samples"]), shape.parameters if shape else None, lora=args.lora)
    longest = int(facts["longest_tokens"])
    laid_out = layout(shape, lengths, where, batch_size=max(advice.batch_sizes), longest=longest, lora=args.lora)
    text = space_text(
        name=_name(args.name or told["train"]),
        **told,
        facts=facts,
        max_length=min(MOST_LENGTH, -(-longest // 64) * 64),
        advice=advice,
        layout=laid_out,
        lora=args.lora,
        file=str(args.out),
    )
    cells = _checked(text)
    args.out.write_text(text, encoding="utf-8")
    print(f"wrote {args.out}: {cells} cells; next: sweeper plan {args.out}, then sweeper run {args.out}")
    lacks = model.get("lacks", ())
    if lacks:
        print(f"the model folder has no {' and no '.join(lacks)} yet: enough to plan, not to run")
    return 0


def _asked(key: str, ask: Callable[[str], str]) -> str:
    if not sys.stdin.isatty():
        raise InputError("must be given: there is no terminal to ask at", where=f"--{key}")
    while True:
        answer = ask(f"{_QUESTIONS[key]}: ").strip()
        if answer:
            return answer


def _facts(told: dict[str, str]) -> dict[str, Any]:
    """Return what is known of model and data, over-long samples cut."""
    from sweeper.planned import find_config_facts

    paths = {key: _path(value) for key, value in told.items()}
    told.update(paths)
    config = TrialConfig(
        model=ModelConfig(path=told["model"]),
        data=DataConfig(
            train=(told["train"],), test={"test": told["test"]}, max_length=MOST_LENGTH, over_long="truncate"
        ),
        train=TrainConfig(batch_size=1, learning_rate=1.0, max_tokens_per_rank=MOST_LENGTH),
    )
    return dict(find_config_facts(config, on_paper=True))


def _path(value: str) -> str:
    """Return a path that exists here whole, so that the file works from any folder; other names as they are."""
    found = Path(value).expanduser()
    is_here = not value.startswith(BUILTIN_PREFIX) and found.exists()
    return str(found.resolve()) if is_here else value


def _name(text: str) -> str:
    """Return a sweep's name from the data's: its folder where the file is called like every other."""
    path = Path(text.removeprefix(BUILTIN_PREFIX))
    stem = path.parent.name if path.stem in ("train", "data") and path.parent.name else path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "sweep"


def _checked(text: str) -> int:
    """Return the number of cells, read as ``sweeper run`` would read them."""
    from sweeper.adapters.yaml_space import load_space

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "space.yaml"
        file.write_text(text, encoding="utf-8")
        return len(load_space(file)[1])
