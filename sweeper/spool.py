"""The spool: everything the record is to hold, appended to files in the sweep's folder before anything else.

One file of JSON lines per trial, ``spool/FINGERPRINT.jsonl``, and one for the sweep itself. A tracker reads the spool
and remembers how far it came, so a tracker that is slow, down or killed loses nothing: whatever it sends twice it
sends with the same key, step, timestamp and value.

A line is written by one ``write`` and survives the death of the process. It is not forced to the disk, so the last
lines may be lost with the machine's power; the trial then measures those milestones again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sweeper.core.errors import RecordError
from sweeper.core.record import SweepInfo

Kind = Literal["sweep_opened", "opened", "measured", "closed", "sweep_closed", "reported"]
KINDS: Final = get_args(Kind)
SWEEP_KEY: Final = "_sweep"
"""Key of the file that holds the sweep's own events; no fingerprint starts with an underscore."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolEvent:
    """One line of the spool."""

    kind: Kind
    wall_time_ms: int
    """Milliseconds since 1970 when it happened; sent on unchanged however often it is sent."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values; non-finite floats are strings (see ``sweeper.core.decode.encode``)."""

    def to_line(self) -> bytes:
        plain = {"kind": self.kind, "wall_time_ms": self.wall_time_ms, **self.body}
        return (json.dumps(plain, separators=(",", ":"), allow_nan=False) + "\n").encode()

    @classmethod
    def from_line(cls, line: bytes, where: str) -> SpoolEvent:
        """Return the event of one complete line; raises ``RecordError`` for anything else."""
        try:
            plain = json.loads(line)
            kind, wall_time_ms = plain.pop("kind"), plain.pop("wall_time_ms")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{where}: not a line of the spool: {line[:80]!r}") from error
        if kind not in KINDS or type(wall_time_ms) is not int:
            raise RecordError(f"{where}: not an event this version knows: {kind!r} at {wall_time_ms!r}")
        return cls(kind=kind, wall_time_ms=wall_time_ms, body=plain)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes a repetition of this event the same event."""
        if self.kind == "measured":
            return (self.kind, self.body["milestone"])
        return (self.kind, self.body.get("state"), self.body.get("sha256"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """What was read from one file."""

    events: tuple[SpoolEvent, ...]
    next_offset: int
    """Byte offset behind the last complete line."""
    torn_bytes: int
    """Length of an incomplete last line: its writer is still writing, or was killed."""


class Spool:
    """The spool of one sweep. One process appends; any number of threads may read."""

    def __init__(self, folder: Path) -> None:
        """Take the sweep's folder; nothing is read or written before it is needed."""
        self.folder = folder / "spool"
        self._measured: dict[str, set[int]] = {}
        self._lifecycle: dict[str, tuple[Any, ...]] = {}

    def cut_torn(self) -> dict[str, int]:
        """Cut off what a killed writer left of its last line; return the bytes cut, by key.

        For the process that appends, before its first append.
        """
        found = {key: self._cut(self._path(key)) for key in self.held_keys()}
        return {key: cut for key, cut in found.items() if cut}

    def append(self, key: str, event: SpoolEvent) -> bool:
        """Append ``event`` unless it is there already; return whether it was appended.

        A measurement is there already when its milestone is, whatever its numbers: an interrupted trial that runs
        again measures the same milestones again. Any other event is there already when it repeats the last one.
        """
        self._recall(key)
        if event.kind == "measured":
            if event.body["milestone"] in self._measured[key]:
                return False
        elif self._lifecycle.get(key) == event.identity:
            return False
        with self._path(key).open("ab", buffering=0) as file:
            file.write(event.to_line())
        self._note(key, event)
        return True

    def holds(self, key: str) -> bool:
        """Return whether anything was ever recorded under ``key``."""
        return self._path(key).exists()

    def read(self, key: str, offset: int = 0, max_bytes: int = 1 << 22) -> Chunk:
        """Return the complete lines from byte ``offset`` on, about ``max_bytes`` of them and at least one.

        Raises:
            RecordError: a complete line is damaged, or ``offset`` does not lie at the start of a line.
        """
        path = self._path(key)
        with path.open("rb") as file:
            file.seek(max(offset - 1, 0))
            if offset and file.read(1) != b"\n":
                raise RecordError(f"{path}: byte {offset} is not the start of a line")
            data = file.read(max_bytes)
            if len(data) == max_bytes:
                data += file.readline()
        complete = data.rfind(b"\n") + 1
        lines = data[:complete].splitlines()
        events = tuple(SpoolEvent.from_line(line, f"{path} after byte {offset}") for line in lines)
        return Chunk(events=events, next_offset=offset + complete, torn_bytes=len(data) - complete)

    def held_keys(self) -> tuple[str, ...]:
        """Return the key of every file, the sweep's own first."""
        names = sorted(path.stem for path in self.folder.glob("*.jsonl"))
        return tuple(sorted(names, key=lambda name: name != SWEEP_KEY))

    def size(self, key: str) -> int:
        return self._path(key).stat().st_size

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jsonl"

    def _recall(self, key: str) -> None:
        """Learn once what the file of ``key`` holds, so that nothing is appended twice."""
        if key in self._measured:
            return
        path = self._path(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._measured[key] = set()
        if path.exists():
            self._cut(path)
            for event in self.read(key, max_bytes=path.stat().st_size + 1).events:
                self._note(key, event)

    @staticmethod
    def _cut(path: Path) -> int:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(size - 1, 0))
            if file.read(1) in (b"", b"\n"):
                return 0
            file.seek(0)
            kept = file.read().rfind(b"\n") + 1
        os.truncate(path, kept)
        return size - kept

    def _note(self, key: str, event: SpoolEvent) -> None:
        if event.kind == "measured":
            self._measured[key].add(event.body["milestone"])
        else:
            self._lifecycle[key] = event.identity


def recall_sweep(spool: Spool) -> SweepInfo | None:
    """Return the sweep as it was opened last; None for one that never was."""
    if not spool.holds(SWEEP_KEY):
        return None
    opened = [event for event in spool.read(SWEEP_KEY).events if event.kind == "sweep_opened"]
    return SweepInfo.from_json(opened[-1].body["sweep"]) if opened else None


def recall_sweep_id(spool: Spool) -> str | None:
    """Return the identity that a sweep was given when it was first opened; None for one that never was.

    A name is not enough: a shared server may hold another sweep of the same name.
    """
    if not spool.holds(SWEEP_KEY):
        return None
    events = spool.read(SWEEP_KEY).events
    return str(events[0].body["sweep_id"]) if events else None


class FlushedOffsets:
    """How far a tracker has come in each file of the spool, kept in one small file that is replaced as a whole."""

    def __init__(self, path: Path, target: str) -> None:
        """Load ``path``; offsets that were reached for another ``target`` do not count."""
        self._path = path
        self._target = target
        self._offsets: dict[str, int] = {}
        if path.exists():
            plain = json.loads(path.read_text())
            if plain["target"] == target:
                self._offsets = plain["offsets"]

    def get(self, key: str) -> int:
        return self._offsets.get(key, 0)

    def advance(self, key: str, offset: int) -> None:
        """Remember that everything before ``offset`` has arrived."""
        self._offsets[key] = offset
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".tmp")
        beside.write_text(json.dumps({"target": self._target, "offsets": self._offsets}))
        os.replace(beside, self._path)
