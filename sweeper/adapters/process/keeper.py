"""``python -m sweeper.adapters.process.keeper``: runs one command and ends all that comes of it, whatever happens.

A launcher such as torchrun puts its ranks into sessions of their own, so that no signal to a process group reaches all
of them, and whoever asked for the command may itself be killed at any time. So a process stands between the two that
has no parent to go down with, and that the kernel makes the parent of every orphan among the command's descendants.
It ends them when it is told to, when the command ends, and when its standard input closes, as it does when the other
side dies.

One line of JSON on standard input says what to run: ``argv``, ``folder``, ``environment``, ``log``, ``scratch``. A
second one ends it: ``patience_s``, the seconds for which the processes may go by themselves. One line on standard
output says how the command ended: ``code``, negative for a signal, or null where it was ended here, or ``error`` where
it did not start. The folder ``scratch`` is removed once nobody listens any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

POLL_S: Final = 0.05
TERM_S: Final = 3.0
"""How long a process may take to obey SIGTERM."""
_PR_SET_CHILD_SUBREAPER: Final = 36


def main() -> int:
    if os.fork():
        return 0  # The one who asked is not this process's parent any more: Ray kills the children of its workers.
    os.setsid()
    line = _next_line()
    if line:
        told = json.loads(line)
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(_keep(told)), flush=True)
        while _next_line():
            pass
        shutil.rmtree(told["scratch"], ignore_errors=True)
    return 0


def _keep(told: dict[str, Any]) -> dict[str, Any]:
    adopt_orphans()
    with Path(told["log"]).open("ab") as log:
        try:
            process = subprocess.Popen(
                told["argv"],
                cwd=told["folder"],
                env=told["environment"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return {"error": f"cannot be started: {error}"}
    while (code := _reap(process.pid)) is None:
        ready, _, _ = select.select([0], [], [], POLL_S)
        if ready:
            end_all(_patience_s(_next_line()), process.pid)
            return {"code": None}
    end_all(0.0, process.pid)
    return {"code": code}


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies; only Linux has this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all(patience_s: float, group: int) -> None:
    """End every descendant: wait, then ask, then force. Comes back when none is left."""
    asked = False
    deadline = time.monotonic() + patience_s
    while found := descendants(os.getpid(), group):
        now = time.monotonic()
        if now >= deadline and not asked:
            asked, deadline = True, now + TERM_S
            _signal(found, signal.SIGTERM)
        elif now >= deadline:
            _signal(found, signal.SIGKILL)
        _reap(group)
        time.sleep(POLL_S / 2)


def descendants(ancestor: int, group: int) -> list[int]:
    """Return the processes that descend from ``ancestor`` and have not ended, by the table of the kernel.

    Where there is no such table, the process group ``group``, as a negative number, while it exists.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(group, 0)
        except OSError:
            return []
        return [-group]
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The name stands in brackets and may hold anything, brackets too.
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(folder.name))
    found: list[int] = []
    ahead = [ancestor]
    while ahead:
        born = children.get(ahead.pop(), [])
        found += born
        ahead += born
    return found


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def _reap(main_process: int) -> int | None:
    """Take in the ended children, adopted ones too; return the main one's exit code if it is among them."""
    code = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if process == 0:
            return code
        if process == main_process:
            code = os.waitstatus_to_exitcode(status)


def _next_line() -> bytes:
    """Read a line, and nothing of what follows it: that is for ``select`` to see. Empty where the other side died."""
    return io.FileIO(0, closefd=False).readline()


def _patience_s(line: bytes) -> float:
    return float(json.loads(line)["patience_s"]) if line else 0.0


if __name__ == "__main__":
    sys.exit(main())
