"""One line of the doctor's answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    """Sweeps run, but slower or with less than they could have."""
    FAIL = "fail"
    """A sweep would not run, or not to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was found of one thing; nothing but ``ok`` comes without a mend."""

    level: Level
    about: str
    text: str
    mend: str = ""
    """The command, or the setting, that mends it."""

    def __post_init__(self) -> None:
        assert self.level is Level.OK or self.mend, f"{self.about}: no mend"


def ok(about: str, text: str) -> Finding:
    return Finding(level=Level.OK, about=about, text=text)


def warn(about: str, text: str, mend: str) -> Finding:
    return Finding(level=Level.WARN, about=about, text=text, mend=mend)


def fail(about: str, text: str, mend: str) -> Finding:
    return Finding(level=Level.FAIL, about=about, text=text, mend=mend)
