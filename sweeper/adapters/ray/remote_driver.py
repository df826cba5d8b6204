"""What runs on the cluster's head node for a sweep that is started from elsewhere: one actor, its driver's keeper.

The driver is a process like any other (``sweeper run --address auto``); the actor starts it, passes on what it says and
interrupts it. The actor is detached, so it outlives whoever asked for it, and it ends itself when its work is done.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sweeper.core.errors import InputError
from sweeper.core.layout import SweepFolder, find_sweep, new_sweep
from sweeper.core.travel import HOME

PATIENCE_S: Final = 60.0
"""How long the actor waits to be told to start, and after the driver's end for somebody to ask how it ended."""
_ANSWER_S: Final = 1.0
_POLL_S: Final = 0.1
_PIECE_BYTES: Final = 1 << 20
_SHOWN_AGAIN_BYTES: Final = 2_000
"""How much of what was said before is shown to somebody who comes later: some twenty lines."""
_OF_THE_WORKER: Final = ("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_CLIENT_MODE")
"""What Ray tells its own worker processes; a driver that had them would take itself for one (Ray 2.60)."""


class Told(NamedTuple):
    """What a driver said since it was last asked."""

    out: bytes
    err: bytes
    code: int | None
    """Its exit code, negative for a signal; None while it runs or where it said more than fits into one answer."""


def reserve(home: str, space_name: str, wanted: str | None) -> tuple[str, str]:
    """Make the folder of a new sweep, and return its name; second, if not empty, why that cannot be."""
    root = Path(home)
    if not root.is_dir():
        mend = "make it, on storage that all nodes see"
        return "", str(InputError("no such folder on the cluster's head node", where=HOME, got=home, mend=mend))
    while True:
        try:
            folder = new_sweep(space_name, wanted, root)
            folder.path.mkdir()
            folder.remote.mkdir()
        except InputError as error:
            return "", str(error)
        except FileExistsError:  # somebody was faster
            if wanted is not None:
                return "", str(InputError("this sweep exists already", where="--sweep", got=wanted))
        except OSError as error:
            return "", str(InputError(f"cannot be written to: {error.strerror}", where=HOME, got=home))
        else:
            return folder.name, ""


def release(home: str, sweep: str) -> None:
    """Remove the folder of a sweep that was reserved and has not begun."""
    folder = SweepFolder(Path(home, sweep))
    if folder.is_reserved:
        shutil.rmtree(folder.path, ignore_errors=True)


def find(home: str, sweep: str | None) -> tuple[str, str]:
    """Return the name of a sweep that exists, the latest one if None is given; second why there is none."""
    try:
        folder = find_sweep(sweep, Path(home))
    except InputError as error:
        return "", str(error)
    if folder.path.parent != Path(home).resolve():
        return "", str(InputError("must be the name of a sweep", where="SWEEP", got=sweep))
    return folder.name, ""


def driver_environment(own: Mapping[str, str], sent: Mapping[str, str], cluster: str) -> dict[str, str]:
    """Return the environment of a driver that a Ray worker with the environment ``own`` starts."""
    plain = {name: value for name, value in own.items() if name not in _OF_THE_WORKER}
    if plain.get("CUDA_VISIBLE_DEVICES") == "":  # Ray hides the GPUs from an actor that asked for none
        del plain["CUDA_VISIBLE_DEVICES"]
    return {**plain, "RAY_ADDRESS": cluster, "PYTHONUNBUFFERED": "1", **sent}


class RemoteDriver:
    """Keeps one driver. Its methods may be called at the same time.

    Credentials come as an argument of ``start``: Ray keeps the arguments of a constructor, and shows and logs the
    variables of a runtime environment.
    """

    def __init__(self, folder: str) -> None:
        self._folder = SweepFolder(Path(folder))
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._said: list[bytes] | None = None
        """All that was said, once the files of it are gone."""
        self._asked_s = time.monotonic()
        self._is_starting = False
        self._end = _own_end()
        threading.Thread(target=self._leave_when_done, daemon=True).start()

    def receive(self, piece: bytes) -> None:
        """Add to the archive of the working directory."""
        self._asked_s = time.monotonic()
        with self._archive.open("ab") as archive:
            archive.write(piece)

    def start(self, words: Sequence[str], variables: Mapping[str, str]) -> tuple[int, int]:
        """Start ``sweeper WORDS`` with these variables, in the working directory that was sent; return from where to
        read what it says."""
        self._is_starting = True
        try:
            return self._start(words, variables)
        finally:
            self._asked_s, self._is_starting = time.monotonic(), False

    def attend(self) -> tuple[int, int]:
        """Return from where to read for somebody who comes later: the last lines, and what follows."""
        self._asked_s = time.monotonic()
        return self._line_before(0), self._line_before(1)

    def read(self, out_at: int, err_at: int) -> Told:
        """Return what the driver said from there on, as soon as there is something, or nothing after a second."""
        until = time.monotonic() + _ANSWER_S
        while True:
            self._asked_s = time.monotonic()
            code = self._code  # before what was said: with the code comes everything
            out, err = self._said_from(0, out_at), self._said_from(1, err_at)
            if max(len(out), len(err)) == _PIECE_BYTES:
                return Told(out, err, None)
            if out or err or code is not None or time.monotonic() > until:
                return Told(out, err, code)
            time.sleep(_POLL_S)

    def interrupt(self) -> None:
        """Send the driver, and what it started, what Ctrl-C sends; an ended one takes no harm."""
        if self._process is not None and self._code is None:
            try:
                os.killpg(self._process.pid, signal.SIGINT)
            except ProcessLookupError:
                return

    @property
    def _is_at_work(self) -> bool:
        return self._is_starting or (self._process is not None and self._code is None)

    @property
    def _archive(self) -> Path:
        return self._folder.remote / "files.tar.gz"

    @property
    def _logs(self) -> tuple[Path, Path]:
        return self._folder.remote / "driver.out", self._folder.remote / "driver.err"

    def _start(self, words: Sequence[str], variables: Mapping[str, str]) -> tuple[int, int]:
        import ray

        folder = self._folder.remote / "files"
        folder.mkdir(parents=True, exist_ok=True)
        if self._archive.exists():
            with tarfile.open(self._archive) as archive:
                archive.extractall(folder, filter="data")
            self._archive.unlink()
        environment = driver_environment(os.environ, variables, ray.get_runtime_context().gcs_address)
        began = threading.Event()
        at = [path.stat().st_size if path.exists() else 0 for path in self._logs]
        # The driver is told when the thread that started it dies, so that one has to last.
        threading.Thread(target=self._run, args=(words, folder, environment, began), daemon=True).start()
        began.wait()
        if self._process is None:
            raise OSError("the driver's process cannot be started")
        return at[0], at[1]

    def _run(self, words: Sequence[str], folder: Path, environment: dict[str, str], began: threading.Event) -> None:
        try:
            with self._logs[0].open("ab") as out, self._logs[1].open("ab") as err:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "sweeper.adapters.process.tether", "-m", "sweeper.cli", *words],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
        finally:
            began.set()
        code = self._process.wait()
        if self._folder.is_reserved:  # refused before anything was written
            self._said = [path.read_bytes() for path in self._logs]
            shutil.rmtree(self._folder.path, ignore_errors=True)
        self._code = code

    def _said_from(self, which: int, at: int) -> bytes:
        if (said := self._said) is not None:
            return said[which][at : at + _PIECE_BYTES]
        try:
            with self._logs[which].open("rb") as log:
                log.seek(at)
                return log.read(_PIECE_BYTES)
        except FileNotFoundError:  # not yet, or no more: then the next answer has it from memory
            return b""

    def _line_before(self, which: int) -> int:
        path = self._logs[which]
        size = path.stat().st_size if path.exists() else 0
        at = max(0, size - _SHOWN_AGAIN_BYTES)
        return at if at == 0 else at + self._said_from(which, at).find(b"\n") + 1

    def _leave_when_done(self) -> None:
        while self._is_at_work or time.monotonic() - self._asked_s < PATIENCE_S:
            time.sleep(1.0)
        release(str(self._folder.path.parent), self._folder.name)
        self._end()


def _own_end() -> Callable[[], None]:
    """Return what ends the actor that this is called in, for a thread of it."""
    import ray

    actor = ray.get_runtime_context().current_actor
    return lambda: ray.kill(actor)
