"""One line per event, for logs, pipes and terminals that cannot redraw."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from sweeper.console.board import Board, Entry
from sweeper.core.closing import closing_lines
from sweeper.core.figures import count, number, plural
from sweeper.core.layout import shown
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo, TrialRow
from sweeper.core.verdict import Verdict


class PlainView:
    """Writes lines of the form ``ELAPSED  ENDED/CELLS  EVENT  TRIAL  details``."""

    def __init__(self, stream: TextIO, now_s: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._now_s = now_s
        self._began_s = now_s()
        self._board: Board | None = None
        self._lock = threading.Lock()

    def open_sweep(self, sweep: SweepInfo) -> None:
        self._board = Board(sweep)
        self._print(opening_line(sweep))

    def recall(self, rows: Sequence[TrialRow]) -> None:
        """Tell what ended before this process began; after ``open_sweep``."""
        board = self._known()
        board.recall(rows)
        if board.ended:
            self._print(f"{plural(board.ended, 'cell')} of {board.cells} ended before; {board.waiting} to go")

    def open_trial(self, trial: TrialInfo) -> None:
        entry = self._known().opened(trial)
        self._event("go on" if entry.samples_seen else "start", entry, trial.unpruned_because)

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict, wall_time_ms: int) -> None:
        del wall_time_ms
        board = self._known()
        self._event("at", board.measured(trial, measurement, verdict), self._signals(measurement))

    def pause_trial(self, trial: TrialInfo) -> None:
        self._event("pause", self._known().paused(trial), "")

    def close_trial(
        self,
        trial: TrialInfo,
        state: TrialState,
        verdict: Verdict | None,
        final: Mapping[str, float],
        detail: str = "",
    ) -> None:
        del final
        board = self._known()
        entry = board.closed(trial, state, verdict, detail)
        if state is TrialState.COMPLETE:
            best = ", best so far" if board.best_entry() is entry else ""
            self._event("done", entry, f"{board.sweep.objective} {number(board.objective(entry))}{best}")
        elif state is TrialState.PRUNED and entry.verdict is not None:
            self._event("pruned", entry, f"{entry.verdict.rule}: {entry.verdict.reason}")
        else:
            self._event(state.value, entry, detail.strip().split("\n")[-1])

    def close_sweep(self, summary: SweepSummary) -> None:
        self._print("")
        for line in closing_lines(summary):
            self._print(line)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Nothing to give back."""

    def notice(self, message: str) -> None:
        """Show a message that belongs to no trial. May be called from any thread."""
        self._print(f"note: {message}")

    def _signals(self, measurement: Measurement) -> str:
        objective = self._known().sweep.objective
        return (
            f"{objective} {number(measurement.signal(objective))}  loss {number(measurement.train_loss)}  "
            f"grad norm {number(measurement.grad_norm)}"
        )

    def _event(self, event: str, entry: Entry, details: str) -> None:
        board = self._known()
        elapsed = f"{self._now_s() - self._began_s:7.1f}s"
        ended = f"{board.ended:>3}/{board.cells}"
        samples = f"{count(entry.samples_seen)}/{count(entry.trial.derived.planned_samples)}"
        self._print(f"{elapsed} {ended} {event:<6} {entry.trial.name}  {samples}  {details}".rstrip())

    def _print(self, line: str) -> None:
        with self._lock:
            print(line, file=self._stream, flush=True)

    def _known(self) -> Board:
        if self._board is None:
            raise RuntimeError("open_sweep comes first")
        return self._board


def opening_line(sweep: SweepInfo) -> str:
    cells = f"{plural(sweep.cells, 'cell')}, " if sweep.cells else ""
    last = sweep.milestones.samples[-1]
    return (
        f"sweep {sweep.name}: {cells}{sweep.direction} {sweep.objective}, "
        f"{plural(len(sweep.milestones.samples), 'milestone')} to {count(last)} samples; in {shown(Path(sweep.folder))}"
    )
