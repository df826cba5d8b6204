"""What is made is made once, whole or not at all, however many processes ask."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from sweeper.core.layout import cache_root
from trials.world.cache import made_once


def _append_and_write(folder: Path) -> None:
    with (folder.parent / "calls").open("a") as file:
        file.write("x")
    (folder / "half").write_text("")
    (folder / "whole").write_text("done")


def _ask(folder: str, start: Barrier, two_inside: Barrier) -> None:
    def make(unfinished: Path) -> None:
        # Gives another process, were it let in, the time to come in too.
        with contextlib.suppress(threading.BrokenBarrierError):
            two_inside.wait(timeout=0.3)
        _append_and_write(unfinished)

    start.wait(timeout=30)
    made = made_once(Path(folder), make)
    # A process that comes too late must still never see a folder without its last file.
    assert (made / "whole").read_text() == "done"


def test_many_processes_at_once_make_a_thing_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(6)
    two_inside = context.Barrier(2)
    processes = [context.Process(target=_ask, args=(str(tmp_path / "thing"), start, two_inside)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0] * 6
    assert (tmp_path / "calls").read_text() == "x"


def test_a_failed_make_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        made_once(tmp_path / "thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]
    assert (made_once(tmp_path / "thing", _append_and_write) / "whole").is_file()


def test_what_a_killed_process_left_is_neither_used_nor_kept(tmp_path: Path) -> None:
    stale = tmp_path / ".thing-abcd"
    stale.mkdir()
    (stale / "half").write_text("")
    made_once(tmp_path / "thing", _append_and_write)
    assert not stale.exists()


def test_others_may_read_what_was_made(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made = made_once(tmp_path / "thing", _append_and_write)
    finally:
        os.umask(before)
    assert (made.stat().st_mode & 0o777, (made / "whole").stat().st_mode & 0o777) == (0o755, 0o644)


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"SWEEPER_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/sweeper"),
        ({"HOME": "/c"}, "/c/.cache/sweeper"),
    ],
)
def test_the_most_specific_variable_names_the_cache(
    environment: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWEEPER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(root)
