"""The state of a sweep as a view shows it, kept from the events it is fed. Knows no terminal."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, TrialInfo
from sweeper.core.verdict import Verdict


@dataclass(slots=True)
class Entry:
    """One trial as it stands now."""

    trial: TrialInfo
    state: TrialState = TrialState.RUNNING
    measurement: Measurement | None = None
    verdict: Verdict | None = None
    detail: str = ""
    changed: int = 0
    """Number of the event that changed it last; higher is more recent."""

    @property
    def samples_seen(self) -> int:
        return self.measurement.samples_seen if self.measurement else 0

    @property
    def share(self) -> float:
        """Progress on the samples axis, 0 to 1."""
        return min(self.samples_seen / max(self.trial.derived.planned_samples, 1), 1.0)


class Board:
    """All trials this process has seen."""

    def __init__(self, sweep: SweepInfo) -> None:
        self.sweep = sweep
        self.entries: dict[str, Entry] = {}
        self._events = 0

    def opened(self, trial: TrialInfo) -> Entry:
        entry = self.entries.setdefault(trial.fingerprint, Entry(trial))
        entry.state = TrialState.RUNNING
        return self._touch(entry)

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict) -> Entry:
        entry = self.entries.setdefault(trial.fingerprint, Entry(trial))
        entry.measurement, entry.verdict = measurement, verdict
        return self._touch(entry)

    def closed(self, trial: TrialInfo, state: TrialState, verdict: Verdict | None, detail: str) -> Entry:
        entry = self.entries.setdefault(trial.fingerprint, Entry(trial))
        entry.state, entry.detail = state, detail
        entry.verdict = verdict or entry.verdict
        return self._touch(entry)

    def objective(self, entry: Entry) -> float | None:
        """Return the trial's objective as last measured."""
        return entry.measurement.signal(self.sweep.objective) if entry.measurement else None

    def best(self) -> Entry | None:
        """Return the completed trial with the best finite objective; the earlier one of two equals."""
        sign = -1 if self.sweep.direction == "maximize" else 1
        found: Entry | None = None
        lowest = math.inf
        for entry in self.entries.values():
            value = self.objective(entry)
            if entry.state is TrialState.COMPLETE and value is not None and sign * value < lowest:
                found, lowest = entry, sign * value
        return found

    def counts(self) -> Counter[TrialState]:
        return Counter(entry.state for entry in self.entries.values())

    @property
    def ended(self) -> int:
        return sum(entry.state.is_final for entry in self.entries.values())

    def shown(self, rows: int) -> list[Entry]:
        """Return at most ``rows`` entries: running ones in their order, the best, then the most recently ended."""
        running = [entry for entry in self.entries.values() if not entry.state.is_final]
        ended = sorted(
            (entry for entry in self.entries.values() if entry.state.is_final), key=lambda entry: -entry.changed
        )
        best = self.best()
        first = [*running[: max(rows - 1, 1)], *([best] if best else [])]
        return [*first, *(entry for entry in ended if entry is not best)][:rows]

    def _touch(self, entry: Entry) -> Entry:
        self._events += 1
        entry.changed = self._events
        return entry
