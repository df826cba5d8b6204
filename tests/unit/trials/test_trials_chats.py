"""What counts as a chat, and how each kind of bad line is refused."""

import json
from pathlib import Path

import pytest
from trial_cases import chat

from sweeper.core.errors import InputError
from trials.chats import read_chats

GOOD = json.dumps(chat("q", "a"))


def read(path: Path) -> list:
    return list(read_chats(str(path), split="train"))


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[1]", "must be an object with 'messages'"),
        ('{"text": "hello"}', "must be an object with 'messages'"),
        ('{"messages": []}', "at least one message"),
        ('{"messages": "hello"}', "at least one message"),
        ('{"messages": ["hello"]}', r"messages\[0\].*'role' and 'content'"),
        ('{"messages": [{"role": "asistant", "content": "a"}]}', r"messages\[0\].*'role' must be one of.*'asistant'"),
        ('{"messages": [{"role": "user", "content": ["a"]}]}', "'content' must be text"),
        ('{"messages": [{"role": "user", "content": "q"}]}', "needs an answer"),
        ('{"messages": [{"role": "assistant", "content": ""}]}', "needs an answer"),
    ],
)
def test_a_bad_line_is_refused_by_file_line_and_rule(tmp_path: Path, line: str, rule: str) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(InputError, match=rule) as caught:
        read(file)
    assert f"{file}:2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(b'{"messages": "\xff"}\n')
    with pytest.raises(InputError, match=r"train.jsonl:1: must be UTF-8"):
        read(file)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("")
    with pytest.raises(InputError, match="holds no chat"):
        read(file)


@pytest.mark.parametrize(
    "path", ["/no/such/file.jsonl", "./missing.jsonl", "missing.jsonl", "data/train.json", "a/b/c"]
)
def test_a_missing_file_is_no_hub_name(path: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(Path(path))


def test_another_ending_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("a,b")
    with pytest.raises(InputError, match=r"must end in .jsonl, .json or .parquet"):
        read(file)


def test_jsonl_and_parquet_give_the_same_chats(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    records = [chat("q", "a"), chat("long question", "first", "second")]
    lines = tmp_path / "train.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    parquet.write_table(arrow.Table.from_pylist(records), tmp_path / "train.parquet")
    assert [one for _, one in read(lines)] == [one for _, one in read(tmp_path / "train.parquet")]


def test_parquet_without_messages_is_refused(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="no column 'messages'"):
        read(tmp_path / "train.parquet")
