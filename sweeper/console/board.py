"""The state of a sweep as a view shows it, kept from the events it is fed. Knows no terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, TrialInfo, TrialRow, rank
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
    """All trials this process has seen, and those that ended before it began."""

    def __init__(self, sweep: SweepInfo) -> None:
        self.sweep = sweep
        self.entries: dict[str, Entry] = {}
        self._earlier: dict[str, TrialRow] = {}
        self._events = 0

    def recall(self, rows: Iterable[TrialRow]) -> None:
        """Count what ended in an earlier process; cells that have not ended are passed over."""
        final = {state.value for state in TrialState if state.is_final and state is not TrialState.INFEASIBLE}
        self._earlier = {row.fingerprint: row for row in rows if row.state in final}

    def opened(self, trial: TrialInfo) -> Entry:
        entry = self.entries.setdefault(trial.fingerprint, Entry(trial))
        entry.state = TrialState.RUNNING
        return self._touch(entry)

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict) -> Entry:
        entry = self.entries.setdefault(trial.fingerprint, Entry(trial))
        entry.measurement, entry.verdict = measurement, verdict
        return self._touch(entry)

    def paused(self, trial: TrialInfo) -> Entry:
        entry = self.entries.setdefault(trial.fingerprint, Entry(trial))
        entry.state = TrialState.PAUSED
        return self._touch(entry)

    def closed(self, trial: TrialInfo, state: TrialState, verdict: Verdict | None, detail: str) -> Entry:
        entry = self.entries.setdefault(trial.fingerprint, Entry(trial))
        entry.state, entry.detail = state, detail
        entry.verdict = verdict or entry.verdict
        return self._touch(entry)

    def objective(self, entry: Entry) -> float | None:
        """Return the trial's objective as last measured."""
        return entry.measurement.signal(self.sweep.objective) if entry.measurement else None

    def best(self) -> tuple[str, float] | None:
        """Return name and objective of the best completed trial; the earlier one of two equals."""
        earlier = rank(list(self._earlier.values()), maximize=self.sweep.direction == "maximize")
        found = [(row.name, row.objective) for row in earlier[:1]]
        found += [(e.trial.name, self.objective(e)) for e in self.entries.values() if e.state is TrialState.COMPLETE]
        sign = -1 if self.sweep.direction == "maximize" else 1
        scored = [(name, value) for name, value in found if value is not None and math.isfinite(value)]
        return min(scored, key=lambda pair: sign * pair[1], default=None)

    def best_entry(self) -> Entry | None:
        """Return the best completed trial where this process has seen it end."""
        best = self.best()
        done = (entry for entry in self.entries.values() if entry.state is TrialState.COMPLETE)
        return next((entry for entry in done if best is not None and entry.trial.name == best[0]), None)

    def counts(self) -> Counter[TrialState]:
        states = Counter(entry.state for entry in self.entries.values())
        return states + Counter(TrialState(row.state) for row in self._old_rows())

    @property
    def ended(self) -> int:
        return sum(amount for state, amount in self.counts().items() if state.is_final)

    @property
    def waiting(self) -> int:
        """Cells that have not been started yet, as far as the number of cells is known."""
        return max(self.sweep.cells - len(self.entries) - len(self._old_rows()), 0)

    @property
    def cells(self) -> int:
        return self.waiting + len(self.entries) + len(self._old_rows())

    def shown(self, rows: int) -> list[Entry]:
        """Return at most ``rows`` entries: running ones in their order, the best, then what paused or ended last."""
        running = [entry for entry in self.entries.values() if entry.state is TrialState.RUNNING]
        others = [entry for entry in self.entries.values() if entry.state is not TrialState.RUNNING]
        others.sort(key=lambda entry: -entry.changed)
        best = self.best_entry()
        first = [*running[: max(rows - 1, 1)], *([best] if best else [])]
        return [*first, *(entry for entry in others if entry is not best)][:rows]

    def _old_rows(self) -> list[TrialRow]:
        return [row for key, row in self._earlier.items() if key not in self.entries]

    def _touch(self, entry: Entry) -> Entry:
        self._events += 1
        entry.changed = self._events
        return entry
