"""Which addresses the processes of a sweep listen on, looked up while it runs."""

from __future__ import annotations

import subprocess
import threading
from types import TracebackType

import psutil

LOOPBACK = ("127.", "::1", "::ffff:127.")


class Listening:
    """Looks at a process and all that descend from it every half second, until it is left."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.found: set[tuple[str, str]] = set()
        """Names of processes and the addresses that they listened on."""
        self._process = psutil.Process(process.pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Listening:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def beyond_loopback(self) -> set[tuple[str, str]]:
        return {(name, address) for name, address in self.found if not address.startswith(LOOPBACK)}

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            try:
                everyone = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in everyone:
                try:
                    sockets = process.net_connections(kind="inet")
                    name = process.name()
                except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                    continue
                self.found |= {(name, one.laddr.ip) for one in sockets if one.status == psutil.CONN_LISTEN}
