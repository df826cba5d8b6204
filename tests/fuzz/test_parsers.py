"""Whatever stands in a file, its reader takes it or refuses it with one message."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import CHATS, SPACE, TARGETS

from sweeper.core.errors import InputError

_CUT = st.tuples(st.floats(0, 1), st.integers(0, 12))
AWKWARD_FILES = [
    ("space", SPACE.replace('"builtin:quickstart"', "~nobody/x")),
    ("space", SPACE.replace('"builtin:quickstart"', "a" * 5000)),
    ("space", SPACE.replace("sweep: demo", "sweep: " + "a" * 5000)),
    ("space", SPACE.replace("[16, 64]", "&a [*a, 1]")),
    ("space", "[" * 5000),
    ("chats", "[" * 100_000),
    ("chats", CHATS.replace("yes", "\\ud800")),
    ("chats", '{"messages": [{"role": ["assistant"], "content": "x"}]}'),
    ("curves", "[" * 100_000),
    ("curves", "9" * 5000),
    ("curves", '{"format": "curves/1", "objective": "loss"}'),
    ("imports", '{"eval_loss": 1, "objective": "eval_loss"}'),
    ("imports", '{"step": 1, "eval_loss": "NaN", "samples_seen": 9}'),
    ("imports", '{"step": 1, "eval_loss": 1' + "0" * 400 + ', "samples_seen": 9}'),
]


@pytest.mark.parametrize("name", TARGETS)
def test_the_valid_file_that_fuzzing_starts_from_is_taken(name: str, tmp_path: Path) -> None:
    for number, text in enumerate(TARGETS[name].seeds):
        file = tmp_path / f"{number}{TARGETS[name].suffix}"
        file.write_text(text, encoding="utf-8")
        TARGETS[name].read(file)


@pytest.mark.parametrize(("name", "text"), AWKWARD_FILES, ids=range(len(AWKWARD_FILES)))
def test_what_once_broke_a_reader_is_refused_or_taken(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / f"input{TARGETS[name].suffix}"
    file.write_text(text, encoding="utf-8")
    with contextlib.suppress(InputError):
        TARGETS[name].read(file)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_parts_replaced_is_taken_or_refused(name: str, tmp_path: Path, data: st.DataObject) -> None:
    target = TARGETS[name]
    text = data.draw(st.sampled_from(target.seeds))
    for (place, length), word in data.draw(st.lists(st.tuples(_CUT, st.sampled_from(target.words)), max_size=4)):
        start = int(place * len(text))
        text = text[:start] + word + text[start + length :]
    file = tmp_path / f"input{target.suffix}"
    file.write_text(text, encoding="utf-8")
    with contextlib.suppress(InputError):
        target.read(file)
