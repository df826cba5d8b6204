"""Where the ranks of a trial report to: a socket in a folder of this user's alone."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.core.measurement import Measurement


class Arrival(NamedTuple):
    """A rank at a milestone."""

    milestone: int
    is_last: bool
    measurement: Measurement | None
    """What rank 0 measured; None from the others."""


class Channel:
    """Listens to the processes of one trial. All ranks wait at a milestone until ``go_on`` or ``stop``."""

    def __init__(self, path: Path) -> None:
        """Listen at ``path``, which has to be shorter than 100 characters."""
        self.arrived: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        """Who came to which milestone, in order."""
        self._judged = 0
        self._stops = False
        self._changed = threading.Condition()
        self._server = _Server(str(path), _Connection)
        self._server.channel = self
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def go_on(self, milestone: int) -> None:
        """Let the ranks that wait at this milestone, or come to it later, train on."""
        with self._changed:
            self._judged = milestone
            self._changed.notify_all()

    def stop(self) -> None:
        """Tell every rank that waits, or comes to a milestone later, to stop."""
        with self._changed:
            self._stops = True
            self._changed.notify_all()

    def close(self) -> None:
        """Answer nobody any more; safe to repeat."""
        self.stop()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, message: dict[str, Any]) -> dict[str, bool]:
        """Take in what a rank says, and return what it is to do, once that is known."""
        told = message["measurement"]
        measurement = None if told is None else Measurement.from_json(told)
        self.arrived.put(Arrival(message["milestone"], message["is_last"], measurement))
        with self._changed:
            if not message["is_last"]:
                self._changed.wait_for(lambda: self._stops or self._judged >= message["milestone"])
            return {"stop": self._stops}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    channel: Channel


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        for line in self.rfile:
            told = self.server.channel.answer(json.loads(line))
            try:
                self.wfile.write(json.dumps(told).encode() + b"\n")
            except BrokenPipeError:
                return
