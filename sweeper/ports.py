"""The doors to the world: what the judge needs from whoever keeps, shows and times a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo, TrialRow
from sweeper.core.verdict import Verdict


class Clock(Protocol):
    """Wall-clock time."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        ...


class Ledger(Protocol):
    """The truth about every cell. All writes are safe to repeat, and outlive this process once they have returned.

    Starts, verdicts and ends outlive the machine's power too; a measurement does with the verdict on it.
    """

    def start(self, fingerprint: str) -> None:
        """Mark a waiting or interrupted cell as running; raises ``LifecycleError`` for one that has ended."""
        ...

    def record(self, fingerprint: str, measurement: Measurement) -> None:
        """Keep a measurement; a milestone already kept changes nothing."""
        ...

    def pause(self, fingerprint: str, asked_after: int) -> None:
        """Mark a running cell as paused until it is started again.

        ``asked_after``: how many trials had ended when the pruner was last asked about it.
        """
        ...

    def advise(self, fingerprint: str, *, again: bool = False) -> Verdict:
        """Ask the pruner about a running trial, on the strength of what is recorded.

        ``again``: about a paused trial before it goes on, however soon after the last time.
        """
        ...

    def skip(self, fingerprint: str) -> Verdict | None:
        """Ask the pruner about a waiting cell; return the verdict by which it is never started, None where it runs."""
        ...

    def verdict_at(self, fingerprint: str, milestone: int) -> Verdict | None:
        """Return the verdict already given at a milestone; milestone 0 is before the start."""
        ...

    def keep_verdict(self, fingerprint: str, milestone: int, verdict: Verdict, *, again: bool = False) -> None:
        """Keep a milestone's verdict; a later one (``again``), given while the trial rests there, takes its place."""
        ...

    def finals(self) -> Mapping[str, float]:
        """Return the final objectives of the trials that ran to their end, by fingerprint."""
        ...

    def suspend(self, rule: str, reason: str) -> None:
        """End nothing by this rule from now on; the first reason stays."""
        ...

    def finish(
        self,
        fingerprint: str,
        state: TrialState,
        *,
        objective: float | None = None,
        cause: FailCause | None = None,
        detail: str = "",
    ) -> None:
        """End a running trial, or a waiting one as PRUNED; raises ``LifecycleError`` for any other."""
        ...


class Tracker(Protocol):
    """Shows a sweep to people. May lag or be down; must lose nothing and never double anything."""

    def open_sweep(self, sweep: SweepInfo) -> None: ...

    def open_trial(self, trial: TrialInfo) -> None: ...

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict, wall_time_ms: int) -> None: ...

    def pause_trial(self, trial: TrialInfo) -> None:
        """The trial gives its gang away after what was measured last; ``open_trial`` comes again when it goes on."""
        ...

    def close_trial(
        self,
        trial: TrialInfo,
        state: TrialState,
        verdict: Verdict | None,
        final: Mapping[str, float],
        detail: str = "",
    ) -> None: ...

    def close_sweep(self, summary: SweepSummary) -> None: ...

    def flush(self) -> None:
        """Return when everything is where people look, or raise."""
        ...


class View(Tracker, Protocol):
    """Shows a sweep in the terminal while it runs."""

    def notice(self, message: str) -> None:
        """Show a message that belongs to no trial; may be called from any thread."""
        ...

    def recall(self, rows: Sequence[TrialRow]) -> None:
        """Take in what ended before this process began; comes after ``open_sweep``."""
        ...

    def close(self) -> None:
        """Give the terminal back; safe to repeat."""
        ...
