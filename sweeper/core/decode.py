"""Build frozen dataclasses from plain data, refusing everything the fields do not allow.

One definition per field: the dataclass is the schema. Used for YAML search spaces, exported configs and values that
cross a process border. Nothing is coerced, except that a whole number is a valid float and a lone item is a valid
list of one.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from sweeper.core.errors import InputError

T = TypeVar("T")
Path = tuple[str | int, ...]


class DecodeError(InputError):
    """A value does not fit its field; ``path`` leads from the root of the document to the culprit."""

    def __init__(self, rule: str, *, path: Path, got: object, mend: str = "") -> None:
        self.path = path
        super().__init__(rule, where=".".join(map(str, path)), got=got, mend=mend)


def decode(cls: type[T], value: object, path: Path = ()) -> T:
    """Return ``value`` as an instance of ``cls``.

    Raises:
        DecodeError: a key is unknown or missing, or a value has the wrong type or breaks a rule of its class.
    """
    result: T = _decode(cls, value, path)
    return result


def encode(value: object) -> Any:
    """Return plain dicts, lists and scalars; the inverse of ``decode``. Non-finite floats become strings."""
    if value is None or type(value) in _PLAIN:
        return value
    kind: Any = type(value)
    if (names := _field_names(kind)) is not None:
        return {name: encode(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


_PLAIN = frozenset({str, int, bool})


@cache
def _field_names(cls: Any) -> tuple[str, ...] | None:
    """Return a dataclass's fields, found out once; None for any other class."""
    return tuple(f.name for f in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest valid key, or all of them where none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid keys: {', '.join(names)}"


def _decode(hint: Any, value: object, path: Path) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, path)
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), value, path)
    if origin is Literal:
        if value in get_args(hint) and not isinstance(value, bool):
            return value
        allowed = ", ".join(map(str, get_args(hint)))
        raise DecodeError(f"must be one of {allowed}", path=path, got=value)
    if origin is tuple:
        return _sequence(get_args(hint)[0], value, path)
    if origin in (Mapping, dict) or hint is dict:
        return _mapping(get_args(hint), value, path)
    return _scalar(hint, value, path)


def _dataclass(cls: Any, value: object, path: Path) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise DecodeError("must be a mapping of keys to values", path=path, got=value)
    plain: Mapping[Any, Any] = cls.expand_shorthand(value) if hasattr(cls, "expand_shorthand") else value
    return _build(cls, plain, path)


def _build(cls: Any, value: Mapping[Any, Any], path: Path) -> Any:
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in value:
        if key not in fields:
            raise DecodeError("unknown key", path=(*path, key), got=key, mend=nearest(str(key), fields))
    missing = [
        name
        for name, field in fields.items()
        if name not in value and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise DecodeError(f"key {missing[0]!r} is required", path=path, got=sorted(map(str, value)))
    arguments = {key: _decode(hints[key], item, (*path, key)) for key, item in value.items()}
    try:
        return cls(**arguments)
    except DecodeError:
        raise
    except InputError as error:
        culprit: Path = (*path, error.where) if error.where in fields else path
        raise DecodeError(error.rule, path=culprit, got=error.got, mend=error.mend) from error


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the types of a class's fields, found out once: it took a quarter of the time of reading a series."""
    return typing.get_type_hints(cls)


def _union(options: tuple[Any, ...], value: object, path: Path) -> Any:
    if value is None:
        if type(None) in options:
            return None
        raise DecodeError("must not be empty", path=path, got=value)
    failures: list[DecodeError] = []
    for option in (o for o in options if o is not type(None)):
        try:
            return _decode(option, value, path)
        except DecodeError as error:
            failures.append(error)
    # The failure that got deepest belongs to the option the user most likely meant.
    raise max(failures, key=lambda error: len(error.path))


def _sequence(item: Any, value: object, path: Path) -> tuple[Any, ...]:
    if value is None or isinstance(value, Mapping):
        raise DecodeError("must be a list", path=path, got=value)
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple(_decode(item, entry, (*path, index)) for index, entry in enumerate(items))


def _mapping(arguments: tuple[Any, ...], value: object, path: Path) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise DecodeError("must be a mapping of names to values", path=path, got=value)
    item = arguments[1] if arguments else Any
    for key in value:
        if not isinstance(key, str):
            raise DecodeError("names must be text", path=(*path, key), got=key)
    return {key: _decode(item, entry, (*path, key)) for key, entry in value.items()}


def _scalar(hint: Any, value: object, path: Path) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(hint, value, path)
    if hint is float and type(value) in (int, float):
        return float(typing.cast(float, value))
    if hint is float and value in ("NaN", "Infinity", "-Infinity"):
        return float(str(value).replace("Infinity", "inf"))
    if hint in (int, str, bool) and type(value) is hint:
        return value
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    raise DecodeError(f"must be {names.get(hint, str(hint))}", path=path, got=value)


def _member(hint: type[Enum], value: object, path: Path) -> Enum:
    try:
        return hint(value)
    except ValueError:
        allowed = ", ".join(str(member.value) for member in hint)
        raise DecodeError(f"must be one of {allowed}", path=path, got=value) from None
