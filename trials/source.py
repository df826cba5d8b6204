"""Where a trial's model and data lie on disk, checked without loading any of them.

Everything a user can name (a folder, a hub name, ``builtin:``) becomes a local path here, so that the rest of the
engine never asks the network. Imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from sweeper.core.config import BUILTIN_PREFIX, DataConfig, ModelConfig
from sweeper.core.errors import InputError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.bin", "*.py"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What a model folder says of itself."""

    architecture: str
    parameters: int | None
    """Number of weights stored; None where they are not safetensors, or not there."""
    config: dict[str, Any]
    """What ``config.json`` says of the sizes: its numbers, and lists and texts that matter for them."""
    lacks: tuple[str, ...] = ()
    """What a trial needs and the folder does not hold; only where it was asked to go on without."""


def go_offline(model: ModelConfig, data: DataConfig) -> None:
    """Keep the hub's client from any look-up where every path is local; must run before transformers is imported."""
    named = [model.path, *data.train, *data.test.values()]
    if all(path.startswith(BUILTIN_PREFIX) or os.path.exists(path) for path in named):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def local_path(path: str) -> Path | None:
    """Return the file or folder that ``path`` names, made first if it is builtin; None where there is none."""
    if path.startswith(BUILTIN_PREFIX):
        from trials.world import resolve

        return resolve(path)
    found = Path(path).expanduser()
    return found if found.exists() else None


def is_hub_name(path: str) -> bool:
    """Tell whether a path that does not exist here can be meant as a name on the hub."""
    return _HUB_NAME.fullmatch(path) is not None


def model_folder(model: ModelConfig) -> Path:
    """Return the local folder of a model, downloaded first if it is a hub name.

    Raises:
        InputError: there is no such folder or hub model, or it cannot be fetched.
    """
    found = local_path(model.path)
    if found is not None:
        return found
    if not is_hub_name(model.path):
        raise InputError("there is no such model folder", where="model.path", got=model.path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=_MODEL_FILES))
    except Exception as error:  # The client raises a dozen kinds; all mean the same to the user.
        raise InputError(
            f"is no local folder, and fetching it from the hub failed ({type(error).__name__})",
            where="model.path",
            got=model.path,
            mend="give a local folder, or check the name, the network and HF_TOKEN",
        ) from error


def check_model(folder: Path, chat_template: str | None, *, on_paper: bool = False) -> ModelFacts:
    """Return a model folder's facts; ``on_paper`` goes on without weights and tokenizer, and says that they lack.

    Raises:
        InputError: configuration, weights, tokenizer or chat template are missing or cannot be read.
    """
    where = "model.path"
    if not folder.is_dir():
        raise InputError("must be a folder", where=where, got=str(folder))
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(
            "model folder has no config.json", where=where, got=str(folder), mend="save it with save_pretrained"
        )
    plain = _read_json(config)
    facts = ModelFacts(
        architecture=str((plain.get("architectures") or ["unknown"])[0]), parameters=None, config=_sizes(plain)
    )
    has_tokenizer = any((folder / name).is_file() for name in _TOKENIZER_FILES)
    if on_paper:
        has_weights = any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "pytorch_model*.bin"))
        lacks = tuple(name for name, there in (("weights", has_weights), ("tokenizer", has_tokenizer)) if not there)
        if lacks:
            return replace(facts, lacks=lacks, parameters=_count_weights(folder) if has_weights else None)
    parameters = _count_weights(folder)
    if not has_tokenizer:
        raise InputError("model folder has no tokenizer", where=where, got=str(folder), mend="add tokenizer.json")
    if chat_template is None and not has_chat_template(folder):
        raise InputError(
            "the tokenizer has no chat template",
            where=where,
            got=str(folder),
            mend="set model.chat_template to a Jinja file",
        )
    if chat_template is not None and not Path(chat_template).is_file():
        raise InputError("there is no such file", where="model.chat_template", got=chat_template)
    return replace(facts, parameters=parameters)


def _sizes(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a config that sizes follow from; maps of labels and the like can be large."""
    kept: dict[str, Any] = {key: value for key, value in plain.items() if isinstance(value, int | float | str | bool)}
    if isinstance(plain.get("layer_types"), list):
        kept["layer_types"] = plain["layer_types"]
    if isinstance(plain.get("text_config"), dict):
        kept["text_config"] = _sizes(plain["text_config"])
    return kept


def has_chat_template(folder: Path) -> bool:
    """Tell whether a tokenizer folder brings a chat template, in a file of its own or inside its configuration."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(_read_json(config).get("chat_template"))


def tokenizer_files(folder: Path) -> Iterable[Path]:
    """Yield the files that decide what a tokenizer does, in a fixed order."""
    names = (*_TOKENIZER_FILES, "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
    for name in sorted({*names, "chat_template.json"}):
        if (folder / name).is_file():
            yield folder / name


def _count_weights(folder: Path) -> int | None:
    """Return the number of weights in the folder's safetensors files, None where only older formats are there."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = {str(name) for name in _read_json(index).get("weight_map", {}).values()}
        missing = sorted(named - {file.name for file in files})
        if missing:
            raise InputError("a weights file is missing", where="model.path", got=str(folder / missing[0]))
        files = [file for file in files if file.name in named]
    if not files:
        if any(folder.glob("pytorch_model*.bin")):
            return None
        raise InputError(
            "model folder has no weights", where="model.path", got=str(folder), mend="add model.safetensors"
        )
    return sum(_count_in(file) for file in files)


def _count_in(file: Path) -> int:
    """Return the number of weights in one safetensors file."""
    try:
        return sum(prod(entry["shape"]) for entry in stored_tensors(file)[0].values())
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise InputError("is not a safetensors file", where="model.path", got=str(file), mend=str(error)) from error


def stored_tensors(file: Path) -> tuple[dict[str, Any], int]:
    """Return what the header of a safetensors file, a length in 8 bytes and then JSON, tells of each tensor by name.

    The second value is where the tensors begin: their ``data_offsets`` count from there.

    Raises:
        ValueError, struct.error: it is no such file.
    """
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > file.stat().st_size:
            raise ValueError("header is longer than the file")
        header = json.loads(stream.read(length))
    return {name: entry for name, entry in header.items() if name != "__metadata__"}, 8 + length


def _read_json(file: Path) -> dict[str, Any]:
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError("is not readable as JSON", where="model.path", got=str(file), mend=str(error)) from error
    if not isinstance(plain, dict):
        raise InputError("must hold a JSON object", where="model.path", got=str(file))
    return plain
