"""The files of paused trials' states: a folder per trial, in memory or on disk, and what each of them takes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from sweeper.core.errors import InputError
from sweeper.core.pause import Kept, Place

SHARED_MEMORY: Final = Path("/dev/shm")
"""A file system in memory that outlives processes: Linux has it everywhere, other systems do not."""
GIB: Final = 2**30


class StateStore:
    """Knows where each state lies and what it takes; a state is counted from before it is written.

    One that is there when the sweep goes on after a crash is found again.
    """

    def __init__(self, disk: Path, disk_gib: float, memory: Path | None = None, memory_gib: float = 0.0) -> None:
        """Keep states under ``disk`` and ``memory``, at most so much in each. Nothing is written yet.

        Args:
            memory: None where none is to be used.
        """
        self._roots = {Place.DISK: disk} | ({Place.MEMORY: memory} if memory is not None else {})
        self._budgets = {Place.DISK: int(disk_gib * GIB), Place.MEMORY: int(memory_gib * GIB)}
        self._kept: dict[str, Kept] = {}
        for place, root in self._roots.items():
            for folder in sorted(root.glob("*")):
                _drop_unfinished(folder)
                if any(folder.glob("step-*")):
                    self._kept[folder.name] = Kept(place=place, num_bytes=size_of(folder))
                else:
                    shutil.rmtree(folder, ignore_errors=True)

    @property
    def kept(self) -> Mapping[str, Kept]:
        """Every state by the trial's fingerprint, those included that are being written."""
        return self._kept

    def budgets(self) -> dict[Place, int]:
        """Return how many bytes all states of each place together may take now: a full disk takes less than planned."""
        found = {}
        for place, root in self._roots.items():
            used = sum(each.num_bytes for each in self._kept.values() if each.place is place)
            found[place] = min(self._budgets[place], used + _free_bytes(root))
        return found

    def folder(self, fingerprint: str) -> Path | None:
        """Return where a trial's state lies, None where it has none."""
        kept = self._kept.get(fingerprint)
        return None if kept is None else self._roots[kept.place] / fingerprint

    def begin(self, fingerprint: str, place: Place, num_bytes: int) -> Path:
        """Count a state that is about to be written, and return where to; an older one of the trial is counted too.

        An older one elsewhere is deleted: it can be trained again.
        """
        old = self._kept.get(fingerprint)
        if old is not None and old.place is not place:
            self.drop(fingerprint)
            old = None
        root = self._roots[place]
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._kept[fingerprint] = Kept(place=place, num_bytes=num_bytes + (old.num_bytes if old is not None else 0))
        return root / fingerprint

    def finish(self, fingerprint: str, num_bytes: int) -> None:
        """A state was written whole and takes so much."""
        self._kept[fingerprint] = Kept(place=self._kept[fingerprint].place, num_bytes=num_bytes)

    def drop(self, fingerprint: str) -> None:
        """Delete a trial's state, if it has one."""
        folder = self.folder(fingerprint)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            del self._kept[fingerprint]

    def retain(self, fingerprints: Collection[str]) -> None:
        """Delete all states but those of these trials."""
        for fingerprint in self._kept.keys() - set(fingerprints):
            self.drop(fingerprint)

    def close(self) -> None:
        """Delete what is empty; states that are left stay for the next run."""
        for root in self._roots.values():
            if root.is_dir() and not any(root.iterdir()):
                root.rmdir()


def memory_folder(sweep: Path) -> Path:
    """Return this sweep's folder in memory; the same one after a crash.

    Raises:
        InputError: this system has no file system in memory.
    """
    if not SHARED_MEMORY.is_dir():
        raise InputError(
            f"states are kept in {SHARED_MEMORY}, which this system has not",
            where="resources.paused_memory_gib",
            mend="leave it out: they are then kept on disk",
        )
    digest = hashlib.sha256(str(sweep.resolve()).encode()).hexdigest()[:16]
    return SHARED_MEMORY / f"sweeper-{os.getuid()}-{digest}"


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder, 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _drop_unfinished(folder: Path) -> None:
    """Delete what a process left that was killed as it wrote."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _free_bytes(root: Path) -> int:
    """Return what the file system has left; the folder itself need not exist yet."""
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free
