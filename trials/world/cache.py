"""Where made things are kept: each made once, whole or not at all, however many processes ask at the same time."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return ``folder``, filled by ``make`` if it is not there yet.

    ``make`` gets an empty folder beside it, which is renamed when ``make`` returns: a reader sees all of it or none,
    and a crash leaves nothing that looks finished. Other processes wait for the one that is at work. The lock is
    ``flock``'s, which the system releases when its holder dies.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            _make(folder, make)
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    for stale in folder.parent.glob(f".{folder.name}-*"):
        # We hold the lock, so whoever left this is gone.
        shutil.rmtree(stale, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        make(unfinished)
        _open_up(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open_up(folder: Path) -> None:
    """Give a flat folder and its files the rights the umask allows: mkdtemp made it 0700, safetensors writes 0600."""
    umask = os.umask(0o022)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~umask)
