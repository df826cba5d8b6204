"""Follows a driver on the cluster: its lines are printed here, and Ctrl-C goes there."""

from __future__ import annotations

import codecs
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

from sweeper.adapters.ray.client import Driver


class Following:
    """One driver and the two streams that its lines go to."""

    def __init__(self, driver: Driver, at: tuple[int, int], out: TextIO, err: TextIO) -> None:
        """Read from ``at`` on, a position in its standard output and one in its standard error."""
        self._driver = driver
        self._at = list(at)
        self._streams = (out, err)
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = (decoder("replace"), decoder("replace"))
        self._interrupts = 0

    def to_the_end(self) -> int:
        """Print what the driver says until it has ended, and return its exit code, negative for a signal.

        SIGINT and SIGTERM are passed on, each as one Ctrl-C; the third one is raised here and leaves the driver alone.

        Raises:
            LostError: the driver cannot be asked any more.
            KeyboardInterrupt: the user does not wait for the end.
        """
        sent = 0
        with self._caught():
            while True:
                while sent < self._interrupts:
                    self._driver.interrupt()
                    sent += 1
                told = self._driver.read(*self._at)
                for which, said in enumerate((told.out, told.err)):
                    self._at[which] += len(said)
                    if said:
                        self._streams[which].write(self._decoders[which].decode(said))
                        self._streams[which].flush()
                if told.code is not None:
                    return told.code

    @contextmanager
    def _caught(self) -> Iterator[None]:
        before: dict[int, Any] = {}
        number: int
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, self._count)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts > 2:
            raise KeyboardInterrupt
