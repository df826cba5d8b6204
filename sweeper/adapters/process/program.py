"""A command under a keeper, as the one who asked for it sees it."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from sweeper.core.errors import SweeperError

_TAIL_BYTES: Final = 16_384
_TAIL_LINES: Final = 30
_ERROR_LINE: Final = re.compile(r"^(\[rank\d+\]: ?)?[\w.]*(Error|Exception|Interrupt|Exit)\b")
_CONSEQUENCES: Final = ("ChildFailedError", "SignalException", "Connection closed by peer", "DistBackendError")
"""Errors by which a launcher and the other ranks tell that one rank has failed."""


def search_path() -> str:
    """Return where commands are looked for: beside this Python first, as in an environment that is not activated."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


class ProgramError(SweeperError):
    """A trial's command ended with an error; the message ends with the line that says which."""


class ProgramDied(ProgramError):
    """A trial's command was killed: its config need not be to blame."""


class Program:
    """A running command. All its processes end with this object's process, however that ends."""

    def __init__(
        self, argv: Sequence[str], *, folder: str, environment: Mapping[str, str], log: Path, scratch: Path
    ) -> None:
        """Start ``argv`` in ``folder``; its prints go to the end of ``log``; ``scratch`` is removed at last."""
        self._log = log
        self._answer: dict[str, object] | None = None
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "sweeper.adapters.process.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        told = {"argv": list(argv), "folder": folder, "environment": dict(environment), "log": str(log)}
        told["scratch"] = str(scratch)
        self._say(told)

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; return whether the command has ended and none of its processes is left."""
        if self._answer is None:
            ready, _, _ = select.select([self._out], [], [], seconds)
            if ready:
                line = self._out.readline()
                self._answer = json.loads(line) if line else {"error": "its keeper was killed"}
                self._keeper.wait()
        return self._answer is not None

    def end(self, patience_s: float) -> None:
        """End all its processes, of which each may first go by itself for so long; come back when none is left."""
        if not self.wait(0):
            self._say({"patience_s": patience_s})
            while not self.wait(3600):
                pass
        self._keeper.communicate()

    def check(self) -> None:
        """Raise unless the command ended by itself with exit code 0; to be called when ``wait`` has said that it ended.

        Raises:
            ProgramDied: a signal ended it, or it could not be started.
            ProgramError: it ended with another exit code.
        """
        assert self._answer is not None
        if "error" in self._answer:
            raise ProgramDied(f"the trial's command: {self._answer['error']}")
        code = self._answer["code"]
        if code != 0:
            how = f"ended with exit code {code}" if isinstance(code, int) and code > 0 else f"was killed ({code})"
            kind = ProgramError if isinstance(code, int) and code > 0 else ProgramDied
            raise kind(f"the trial's command {how}; the end of {self._log}:\n{tail(self._log)}")

    @property
    def _out(self) -> IO[str]:
        assert self._keeper.stdout is not None
        return self._keeper.stdout

    def _say(self, told: Mapping[str, object]) -> None:
        assert self._keeper.stdin is not None
        try:
            self._keeper.stdin.write(json.dumps(told) + "\n")
            self._keeper.stdin.flush()
        except BrokenPipeError:
            return  # It has just ended; its answer says how.


def tail(log: Path) -> str:
    """Return the last lines of a log, and at the end once more the one that names the error."""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
        lines = file.read().decode(errors="replace").splitlines()
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    own = [line for line in errors if not any(word in line for word in _CONSEQUENCES)]
    return "\n".join([*lines[-_TAIL_LINES:], *(own or errors)[:1]])
