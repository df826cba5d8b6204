"""YAML search spaces in and out, with errors that name the file, the line and the key."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sweeper.core.address import without_password
from sweeper.core.config import BUILTIN_PREFIX
from sweeper.core.decode import DecodeError, decode, encode
from sweeper.core.errors import InputError
from sweeper.core.space import Cell, SearchSpace, expand

SHIPPED = Path(__file__).parents[2] / "search_spaces"
"""The search spaces that come with the package: beside it in a checkout and in an installation alike."""

_SHIPPED_NAME = re.compile(r"[\w.+-]{1,64}(/[\w.+-]{1,64})?")
_SCIENTIFIC = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``2e-5`` is a number (YAML 1.1 reads it as text) and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            if key in seen:
                problem = f"key {key!r} stands twice, first on line {seen[key]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen[key] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+.0123456789"))


def load_space(path: Path, overrides: Sequence[str] = ()) -> tuple[SearchSpace, tuple[Cell, ...]]:
    """Read a search space, apply ``key=value`` overrides, and expand it.

    ``path`` is a file, or the name of a search space that ships: ``quickstart``, ``templates/3b-8gpu``. Relative paths
    in ``model`` and ``data`` are resolved against the current folder.

    Raises:
        InputError: with file, line and key of the first thing that is wrong.
    """
    path = _shipped(path) or path
    return read_space(_read(path), str(path), overrides)


def read_space(text: str, name: str, overrides: Sequence[str] = ()) -> tuple[SearchSpace, tuple[Cell, ...]]:
    """Read a search space from its YAML text, as ``load_space`` does; ``name`` stands in error messages."""
    node, plain = parse(text, name)
    for override in overrides:
        apply_override(plain, override)
    try:
        space = decode(SearchSpace, _absolute_paths(plain))
        return space, expand(space)
    except DecodeError as error:
        raise error.at(_place(error, name, node, overrides)) from error


def text_of(plain: Mapping[str, Any]) -> str:
    """Return the YAML text of a search space that is given as its sections; tuples count as lists."""
    try:
        return yaml.safe_dump(encode(plain), sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise InputError("holds a value that YAML has no form for", got=str(error)) from error


def written(changes: Mapping[str, Any]) -> list[str]:
    """Return changes by dotted key as the command line takes them, ``key=value``."""
    # JSON is YAML, and a lone value in it has no document end.
    return [f"{key}={json.dumps(encode(value))}" for key, value in changes.items()]


def parse(text: str, name: str) -> tuple[yaml.Node | None, dict[str, Any]]:
    """Return the node tree and the plain mapping of one YAML document; ``name`` stands in error messages."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        plain = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"not valid YAML: {error.problem}", where=f"{name}:{line}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"not valid YAML: {error}", where=name) from error
    if not isinstance(plain, dict):
        raise InputError("must be a mapping of keys to values", where=name, got=plain)
    return node, plain


def apply_override(plain: dict[str, Any], override: str) -> None:
    """Set one dotted key in place, e.g. ``train.epochs=2`` or ``grid.batch_size=[64,256]``."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError("must have the form key=value", where=f"--set {override}", mend="e.g. --set train.epochs=2")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError("value is not valid YAML", where=f"--set {override}", got=text) from error
    *parents, last = key.strip().split(".")
    if parents and parents[0] == "grid":
        # Axis names may hold a dot themselves (data.max_length), so all after "grid." is one key.
        parents, last = ["grid"], key.strip().removeprefix("grid.")
    target = plain
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise InputError(f"{parent!r} is not a section", where=f"--set {override}", got=target)
    target[last] = value


def _shipped(path: Path) -> Path | None:
    """Return the search space that ships under this name; a file of the same name comes first."""
    if not _SHIPPED_NAME.fullmatch(str(path)) or ".." in path.parts or path.is_file():
        return None
    named = SHIPPED / f"{path}.yaml"
    return named if named.is_file() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        mend = "" if path.suffix else f"these ship: {', '.join(sorted(p.stem for p in SHIPPED.glob('*.yaml')))}"
        raise InputError("no such file", where=str(path), mend=mend) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as text: {error}", where=str(path)) from error


def _absolute_paths(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a copy in which paths that exist here are absolute; hub names and builtins stay as they are."""
    result = dict(plain)
    if isinstance(model := result.get("model"), dict):
        result["model"] = {k: _absolute(v) if k in ("path", "chat_template") else v for k, v in model.items()}
    if isinstance(data := result.get("data"), dict):
        result["data"] = {k: _absolute(v) if k in ("train", "test") else v for k, v in data.items()}
    if isinstance(evaluation := result.get("eval"), dict):
        named = ("multiple_choice", "few_shot_from", "lm_eval_path")
        result["eval"] = {k: _absolute(v) if k in named else v for k, v in evaluation.items()}
    if isinstance(grid := result.get("grid"), dict):
        paths = ("model.path", "model.chat_template", "data.train")
        result["grid"] = {k: _absolute(v) if k in paths else v for k, v in grid.items()}
    return result


def _absolute(value: Any) -> Any:
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    if isinstance(value, dict):
        return {key: _absolute(item) for key, item in value.items()}
    if not isinstance(value, str) or value.startswith(BUILTIN_PREFIX):
        return value
    try:
        path = Path(value).expanduser()
        return str(path.resolve()) if path.exists() else value
    except (OSError, RuntimeError):
        # Too long for a path, or the home of someone unknown: whoever opens it refuses it by name.
        return value


def _place(error: DecodeError, name: str, node: yaml.Node | None, overrides: Sequence[str]) -> str:
    dotted = ".".join(map(str, error.path))
    for override in overrides:
        key = override.partition("=")[0].strip()
        written_by_override = key.startswith(dotted + ".") and _child(node, error.path[0]) is None
        if dotted == key or dotted.startswith(key + ".") or written_by_override:
            return f"--set {without_password(override)}"
    return f"{name}:{_line(node, error.path)}: {dotted}" if dotted else name


def _line(node: yaml.Node | None, path: tuple[str | int, ...]) -> int:
    """Return the 1-based line of the deepest part of ``path`` that stands in the document."""
    line = node.start_mark.line + 1 if node else 1
    for part in path:
        child = _child(node, part)
        if child is None:
            break
        mark, node = child
        line = mark.line + 1
    return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark, node.value[part]
    return None
