"""The MLflow tracker: the driver appends to the spool and goes on; a thread brings the spool to MLflow.

The driver never waits for MLflow. What could not be sent stays in the spool and is sent when MLflow answers again, or
by the next process that opens the sweep.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sweeper.adapters.mlflow.sender import Sender
from sweeper.adapters.mlflow.store import Store, sweep_store
from sweeper.core.decode import encode
from sweeper.core.errors import SweeperError
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo
from sweeper.core.verdict import Verdict
from sweeper.spool import SWEEP_KEY, Kind, Spool, SpoolEvent, recall_sweep, recall_sweep_id

REPORT_SUFFIXES: Final = (".html", ".png")


class TrackerBehind(SweeperError):
    """MLflow did not take everything in time; nothing is lost, the rest is in the spool."""


class MlflowTracker:
    """Keeps MLflow up to date with one sweep. Its methods are for one thread, the driver's."""

    def __init__(
        self,
        folder: Path,
        *,
        uri: str | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        on_trouble: Callable[[str], None] = lambda message: None,
        flush_timeout_s: float = 120.0,
        flush_patience_s: float = 10.0,
    ) -> None:
        """Keep the record of the sweep in ``folder``, in the MLflow store at ``uri`` or in a file of the folder.

        ``on_trouble`` gets one line, from the thread, when MLflow stops answering, and one when it answers again.
        """
        self.store: Store = sweep_store(folder, uri)
        self.spool = Spool(folder)
        self._now_ms = now_ms
        self._on_trouble = on_trouble
        self._flush_timeout_s = flush_timeout_s
        self._flush_patience_s = flush_patience_s
        self._sender: Sender | None = None

    def open_sweep(self, sweep: SweepInfo) -> None:
        """Start or go on; what an earlier process left in the spool is sent first."""
        torn = self.spool.cut_torn()
        if torn:
            names = ", ".join(f"{key} ({cut} bytes)" for key, cut in torn.items())
            self._on_trouble(f"an earlier process was killed while it wrote; its last line was cut off: {names}")
        sweep_id = recall_sweep_id(self.spool) or uuid.uuid4().hex[:12]
        self._append(SWEEP_KEY, "sweep_opened", {"sweep": sweep.to_json(), "sweep_id": sweep_id})
        self._send(sweep, sweep_id)

    def reopen(self) -> bool:
        """Go on with the record of a sweep that was opened before, without a new start; False where it never was."""
        sweep, sweep_id = recall_sweep(self.spool), recall_sweep_id(self.spool)
        if sweep is None or sweep_id is None:
            return False
        self._send(sweep, sweep_id)
        return True

    def _send(self, sweep: SweepInfo, sweep_id: str) -> None:
        if self._sender is None:
            self._sender = Sender(self.spool, self.store, sweep, sweep_id, self._on_trouble)
            self._sender.start()

    def open_trial(self, trial: TrialInfo) -> None:
        self._append(trial.fingerprint, "opened", {"trial": trial.to_json()})

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict, wall_time_ms: int) -> None:
        body = {
            "milestone": measurement.milestone,
            "measurement": measurement.to_json(),
            "verdict": verdict.to_json(),
        }
        self._append(trial.fingerprint, "measured", body, wall_time_ms)

    def pause_trial(self, trial: TrialInfo) -> None:
        """MLflow knows no such state: the run stays RUNNING there."""

    def close_trial(
        self,
        trial: TrialInfo,
        state: TrialState,
        verdict: Verdict | None,
        final: Mapping[str, float],
        detail: str = "",
    ) -> None:
        if not self.spool.holds(trial.fingerprint):
            self.open_trial(trial)
        body = {
            "state": state.value,
            "verdict": None if verdict is None else verdict.to_json(),
            "final": encode(final),
            "detail": detail,
        }
        self._append(trial.fingerprint, "closed", body)

    def close_sweep(self, summary: SweepSummary) -> None:
        self._append(SWEEP_KEY, "sweep_closed", {"summary": summary.to_json()})

    def attach_report(self, folder: Path) -> None:
        """Put the report's files on the summary run; ``folder`` lies in the sweep's own."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in REPORT_SUFFIXES}
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(name.encode() + content)
        body = {"folder": folder.name, "files": list(files), "sha256": digest.hexdigest()}
        self._append(SWEEP_KEY, "reported", body)

    def flush(self) -> None:
        """Return when MLflow holds everything.

        Raises:
            TrackerBehind: it did not within ``flush_timeout_s``, or took nothing for ``flush_patience_s`` (enough for
                a server to restart); the next ``resume`` sends the rest.
        """
        if self._sender is None:
            return
        left, trouble = self._sender.wait_idle(self._flush_timeout_s, self._flush_patience_s)
        if not left:
            return
        reason = f": {type(trouble).__name__}: {trouble}" if trouble else ""
        raise TrackerBehind(
            f"MLflow at {self.store.shown_uri} is behind for {left} of {len(self.spool.held_keys())} files of "
            f"{self.spool.folder}, which hold everything{reason}"
        ) from trouble

    def close(self) -> None:
        """End the thread after what it is sending now; anything unsent stays in the spool."""
        if self._sender is not None:
            self._sender.stop()

    def _append(self, key: str, kind: Kind, body: Mapping[str, Any], wall_time_ms: int | None = None) -> None:
        event = SpoolEvent(kind=kind, wall_time_ms=self._now_ms() if wall_time_ms is None else wall_time_ms, body=body)
        if self.spool.append(key, event) and self._sender is not None:
            self._sender.notify(key)
