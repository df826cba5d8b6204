"""The thread that brings the spool to MLflow, retries while MLflow is away, and remembers how far it came."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from sweeper.adapters.mlflow.store import Store, connect
from sweeper.adapters.mlflow.writer import RunWriter
from sweeper.core.record import SweepInfo
from sweeper.spool import SWEEP_KEY, FlushedOffsets, Spool

LONGEST_PAUSE_S: Final = 15.0
REFUSALS: Final = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE")
"""MLflow's answers that speak about one run and not about the server: other runs go on meanwhile."""


class Sender:
    """Sends what is new in the spool. ``notify``, ``wait_idle`` and ``stop`` are for any thread."""

    def __init__(
        self, spool: Spool, store: Store, sweep: SweepInfo, sweep_id: str, on_trouble: Callable[[str], None]
    ) -> None:
        self._spool = spool
        self._store = store
        self._sweep = sweep
        self._sweep_id = sweep_id
        self._on_trouble = on_trouble
        # A hash, because a URI may hold a password.
        target = hashlib.sha256(store.uri.encode()).hexdigest()[:16]
        self._offsets = FlushedOffsets(spool.folder / "flushed.json", target)
        self._changed = threading.Condition()
        self._behind = {key for key in spool.held_keys() if spool.size(key) != self._offsets.get(key)}
        self._stopping = False
        self._hurried = False
        self._arrived_s = 0.0
        self._trouble: Exception | None = None
        self._writer: RunWriter | None = None
        self._thread = threading.Thread(target=self._run, name="mlflow-sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self, key: str) -> None:
        """Tell that the file of ``key`` has grown."""
        with self._changed:
            self._behind.add(key)
            self._changed.notify_all()

    def wait_idle(self, timeout_s: float, patience_s: float) -> tuple[int, Exception | None]:
        """Wait until all is sent; return how many files are not, and what is in the way.

        Tries again at once, and gives up before ``timeout_s`` where nothing arrives for ``patience_s``.
        """
        self._arrived_s = time.monotonic()

        def settled() -> bool:
            failing = self._trouble is not None and time.monotonic() - self._arrived_s > patience_s
            return not self._behind or failing

        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(settled, timeout_s)
            return len(self._behind), self._trouble

    def stop(self) -> None:
        """End the thread after what it is sending now."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        pause_s = 0.0
        while True:
            with self._changed:
                if pause_s and self._changed.wait_for(lambda: self._stopping or self._hurried, pause_s):
                    pause_s = 0.0
                self._hurried = False
                self._changed.wait_for(lambda: self._stopping or bool(self._behind))
                if self._stopping:
                    return
                keys = sorted(self._behind, key=lambda key: (key != SWEEP_KEY, key))
            failure = self._send_all(keys)
            pause_s = min(max(2 * pause_s, 0.5), LONGEST_PAUSE_S) if failure else 0.0
            self._tell(failure)

    def _send_all(self, keys: Iterable[str]) -> Exception | None:
        """Send what is new of each key; return the last failure, after which all is tried again."""
        failure: Exception | None = None
        for key in keys:
            if self._stopping:
                break
            try:
                self._send(key)
            # The edge of a thread: whatever goes wrong with the record must reach the user and must not end it.
            except Exception as error:
                failure = error
                self._writer = None  # Runs are looked up anew: a call that failed may have made one.
                if getattr(error, "error_code", None) not in REFUSALS:
                    break
        return failure

    def _send(self, key: str) -> None:
        if self._writer is None:
            folder = self._spool.folder.parent
            self._writer = RunWriter(connect(self._store), self._store, self._sweep, self._sweep_id, folder)
        offset = self._offsets.get(key)
        if not self._writer.knows(key) or offset > self._spool.size(key):
            offset = 0
        while not self._stopping:
            chunk = self._spool.read(key, offset)
            if not chunk.events:
                break
            self._writer.apply(key, chunk.events)
            offset = chunk.next_offset
            self._offsets.advance(key, offset)
            self._arrived_s = time.monotonic()
        with self._changed:
            if offset == self._spool.size(key):
                self._behind.discard(key)
                self._changed.notify_all()

    def _tell(self, failure: Exception | None) -> None:
        if failure is not None and self._trouble is None:
            first_line = str(failure).strip().split("\n")[0]
            self._on_trouble(
                f"MLflow at {self._store.shown_uri} does not take the record ({type(failure).__name__}: {first_line}); "
                "the sweep goes on, everything is kept in its folder and sent later"
            )
        elif failure is None and self._trouble is not None:
            self._on_trouble(f"MLflow at {self._store.shown_uri} takes the record again")
        with self._changed:
            self._trouble = failure
            self._changed.notify_all()
