"""What can go wrong, named by what the caller should do about it.

SweeperError            base: catch this at a process edge
├── InputError          the user's input breaks a rule: mend it; nothing was written
├── InfeasibleError     this one cell cannot run: leave it out, go on with the others
├── OutOfMemory         a trial does not fit into memory: give it more, or leave it out; its config may be a good one
├── LifecycleError      a trial was moved along an illegal path: a defect of the caller
└── RecordError         the stored record is damaged or not ours: stop, do not guess
"""

from __future__ import annotations

from typing import Final

_NOTHING: Final = object()


class SweeperError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(SweeperError):
    """The user's input breaks a rule.

    The message always answers four questions in one line: where, which rule, what was got, how to mend it.
    """

    def __init__(self, rule: str, *, where: str = "", got: object = _NOTHING, mend: str = "") -> None:
        self.rule = rule
        self.where = where
        self.got = got
        self.mend = mend
        super().__init__(self._message())

    def _message(self) -> str:
        head = f"{self.where}: " if self.where else ""
        got = "" if self.got is _NOTHING else f", got {self.got!r}"
        mend = f" ({self.mend})" if self.mend else ""
        return f"{head}{self.rule}{got}{mend}"

    def at(self, where: str) -> InputError:
        """Return the same complaint with its place made more precise."""
        return InputError(self.rule, where=where, got=self.got, mend=self.mend)


class InfeasibleError(SweeperError):
    """This cell cannot run; the message is the reason shown beside the cell."""


class OutOfMemory(SweeperError):
    """A trial does not fit into memory; the message says where it ran out and how to mend it."""


class LifecycleError(SweeperError):
    """A trial was asked to change state along a path that does not exist."""


class RecordError(SweeperError):
    """A file or row of the sweep's record is damaged or has another format."""
