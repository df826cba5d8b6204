"""Chats as the user stores them: JSONL, Parquet or a ``datasets`` set, read and checked line by line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from sweeper.core.errors import InputError
from trials.source import is_hub_name, local_path

Chat: TypeAlias = list[dict[str, Any]]

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
"""A role outside this list is refused: a misspelt ``assistant`` would silently carry no loss."""

_SUFFIXES = (".jsonl", ".json", ".parquet")
_SPLIT = re.compile(r"(?P<name>[^\[\]]+)\[(?P<split>[^\[\]]+)\]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MESSAGES_MEND = 'one chat per line: {"messages": [{"role": "user", "content": "..."}, ...]}'


def read_chats(path: str, *, split: str) -> Iterator[tuple[str, Chat]]:
    """Yield each chat with the place it comes from, as ``file:line`` for messages to the user.

    Args:
        path: a ``.jsonl``, ``.json`` or ``.parquet`` file, a ``builtin:`` path, a folder that ``datasets`` saved, or
            a data set's name on the hub, its split in brackets where it is not ``split``: ``org/name[train_sft]``.
        split: the split to take of a named data set.

    Raises:
        InputError: there is no such data, or a line is not a chat.
    """
    found = local_path(path)
    if found is None or found.is_dir():
        yield from _named(path, split)
    elif found.suffix not in _SUFFIXES:
        raise InputError("must end in .jsonl, .json or .parquet", where=str(found), got=found.suffix)
    elif found.suffix == ".parquet":
        yield from _parquet(found)
    else:
        yield from _jsonl(found)


def check_chat(record: object, where: str) -> Chat:
    """Return the messages of one record.

    Raises:
        InputError: it is not a chat with at least one answer of the assistant.
    """
    if not isinstance(record, Mapping) or "messages" not in record:
        raise InputError(
            "each line must be an object with 'messages'", where=where, got=_brief(record), mend=_MESSAGES_MEND
        )
    messages = record["messages"]
    if not isinstance(messages, (list, tuple)) or not messages:
        raise InputError("'messages' must be a list of at least one message", where=where, got=_brief(messages))
    chat = [_check_message(message, f"{where}: messages[{index}]") for index, message in enumerate(messages)]
    if not any(message["role"] == "assistant" and message["content"] for message in chat):
        raise InputError("a chat needs an answer of the assistant to learn from", where=where, got=_brief(messages))
    return chat


def _check_message(message: object, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError("a message must be an object with 'role' and 'content'", where=where, got=_brief(message))
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise InputError(f"'role' must be one of {', '.join(ROLES)}", where=where, got=_brief(role))
    if not isinstance(content, str):
        raise InputError("'content' must be text", where=where, got=_brief(content))
    if _LONE_SURROGATE.search(content):
        raise InputError(
            "'content' holds half of a surrogate pair, which is not text", where=where, got=_brief(ascii(content))
        )
    # Columns of Parquet and datasets hold None for keys that other messages have.
    return {key: value for key, value in message.items() if value is not None}


def _jsonl(file: Path) -> Iterator[tuple[str, Chat]]:
    empty = True
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}:{number}"
            empty = False
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError("must be UTF-8 text", where=where, got=_brief(error.object)) from error
            except (ValueError, RecursionError) as error:
                raise InputError(
                    "is not JSON", where=where, got=_brief(line.decode("utf-8")), mend=_MESSAGES_MEND
                ) from error
            yield where, check_chat(record, where)
    if empty:
        raise InputError("file holds no chat", where=str(file), got="an empty file", mend=_MESSAGES_MEND)


def _parquet(file: Path) -> Iterator[tuple[str, Chat]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise InputError("reading Parquet needs pyarrow", where=str(file), mend="pip install pyarrow") from error
    try:
        table = parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise InputError("is not a Parquet file", where=str(file), got=str(error)) from error
    if "messages" not in table.schema_arrow.names:
        raise InputError("has no column 'messages'", where=str(file), got=table.schema_arrow.names)
    number = 0
    for batch in table.iter_batches(columns=["messages"]):
        for messages in batch.column(0).to_pylist():
            number += 1
            where = f"{file}:{number}"
            yield where, check_chat({"messages": messages}, where)
    if not number:
        raise InputError("file holds no chat", where=str(file), got="an empty table")


def named_set(path: str, *, split: str) -> Any:
    """Return the ``datasets`` set that a name or folder stands for.

    Raises:
        InputError: it cannot be loaded.
    """
    bracketed = _SPLIT.fullmatch(path)
    name, wanted = (bracketed["name"], bracketed["split"]) if bracketed else (path, split)
    folder = local_path(name)
    is_file_name = Path(name).suffix in _SUFFIXES
    if folder is None and (is_file_name or not is_hub_name(name)):
        raise InputError("there is no such file", where="data", got=path)
    return _load_named(name, folder, wanted)


def _named(path: str, split: str) -> Iterator[tuple[str, Chat]]:
    for number, record in enumerate(named_set(path, split=split), start=1):
        where = f"{path}:{number}"
        yield where, check_chat(record, where)


def _load_named(name: str, folder: Path | None, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "is no file, and data sets by name need the package datasets", where="data", got=name
        ) from error
    try:
        if folder is None:
            return datasets.load_dataset(name, split=split)
        stored = datasets.load_from_disk(str(folder))
        return stored[split] if isinstance(stored, datasets.DatasetDict) else stored
    except Exception as error:  # Many kinds of the client's; all mean that the data cannot be had.
        raise InputError(
            f"is neither a chat file nor a data set that can be loaded ({type(error).__name__}: {_brief(str(error))})",
            where="data",
            got=f"{name}[{split}]",
        ) from error


def _brief(value: object) -> str:
    """Return at most 80 characters of a value, so that a message stays one line."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."
