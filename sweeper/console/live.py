"""A table that is redrawn in place while a sweep runs; the closing text stays when it ends."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeper.console.board import Board, Entry
from sweeper.console.tables import print_closing
from sweeper.core.figures import count, duration, number
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo, TrialRow
from sweeper.core.verdict import Verdict

STYLES: Final = {
    TrialState.WAITING: "dim",
    TrialState.RUNNING: "cyan",
    TrialState.PAUSED: "blue",
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "yellow",
    TrialState.FAIL: "bold red",
    TrialState.INFEASIBLE: "dim",
}
REDRAWS_PER_S: Final = 4
BAR_COLUMNS: Final = 8
MOST_ROWS: Final = 24
FRAME_ROWS: Final = 6
"""Lines around the trials: title, counts, column heads, rules, and the line the shell needs."""
NARROW: Final = 100
"""Below this many columns, seconds and gradient norm give way to the verdict."""


class LiveView:
    """Shows running trials first, then the best, then the latest to pause or end; counts tell of the rest."""

    def __init__(self, stream: TextIO, now_s: Callable[[], float] = time.monotonic, console: Console | None = None):
        """Draw on ``stream``; ``console`` replaces the one made for it (for pictures of the table)."""
        self._console = console or Console(file=stream, highlight=False)
        self._now_s = now_s
        self._began_s = now_s()
        self._board: Board | None = None
        self._lock = threading.Lock()
        self._live: Live | None = None

    def open_sweep(self, sweep: SweepInfo) -> None:
        self._board = Board(sweep)
        self._live = Live(self, console=self._console, refresh_per_second=REDRAWS_PER_S, transient=True)
        self._live.start()
        # Without it, a driver that ends by an error leaves the terminal without its cursor.
        atexit.register(self.close)

    def recall(self, rows: Sequence[TrialRow]) -> None:
        """Tell what ended before this process began; after ``open_sweep``."""
        with self._lock:
            self._known().recall(rows)

    def open_trial(self, trial: TrialInfo) -> None:
        with self._lock:
            self._known().opened(trial)

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict, wall_time_ms: int) -> None:
        del wall_time_ms
        with self._lock:
            self._known().measured(trial, measurement, verdict)

    def pause_trial(self, trial: TrialInfo) -> None:
        with self._lock:
            self._known().paused(trial)

    def close_trial(
        self,
        trial: TrialInfo,
        state: TrialState,
        verdict: Verdict | None,
        final: Mapping[str, float],
        detail: str = "",
    ) -> None:
        del final
        with self._lock:
            self._known().closed(trial, state, verdict, detail)

    def close_sweep(self, summary: SweepSummary) -> None:
        self.close()
        print_closing(self._console, summary, rows=MOST_ROWS)

    def flush(self) -> None:
        """Nothing lags: the table is redrawn by itself."""

    def notice(self, message: str) -> None:
        """Show a message above the table; it stays. May be called from any thread."""
        self._console.print(Text("note: ", style="bold yellow") + Text(message))

    def close(self) -> None:
        """Take the table off the terminal and give the cursor back. Safe to repeat."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            atexit.unregister(self.close)

    def _known(self) -> Board:
        if self._board is None:
            raise RuntimeError("open_sweep comes first")
        return self._board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield self._draw(options.max_width, console.height)

    def _draw(self, width: int, height: int) -> RenderableType:
        board = self._known()
        rows = max(min(height - FRAME_ROWS, MOST_ROWS), 3)
        return Group(self._title(board), self._counts(board), self._table(board, board.shown(rows), width))

    def _title(self, board: Board) -> Text:
        title = Text(f"sweep {board.sweep.name}", style="bold", no_wrap=True, overflow="ellipsis")
        title.append(f"  {board.sweep.direction} {board.sweep.objective}  ", style="default")
        best = board.best()
        if best is not None:
            title.append(f"best {number(best[1])} {best[0]}", style="green")
        return title

    def _counts(self, board: Board) -> Text:
        counts = board.counts()
        line = Text(f"{board.ended}/{board.cells} ended", no_wrap=True, overflow="ellipsis")
        for state in (TrialState.RUNNING, TrialState.PAUSED, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
            if counts[state]:
                line.append(f"  {counts[state]} {state.value}", style=STYLES[state])
        if board.waiting:
            line.append(f"  {board.waiting} waiting", style="dim")
        return line.append(f"  {duration(self._now_s() - self._began_s)}", style="dim")

    def _table(self, board: Board, entries: list[Entry], width: int) -> Table:
        wide = width >= NARROW
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("trial", no_wrap=True, overflow="ellipsis", max_width=28 if wide else 20)
        table.add_column("state", no_wrap=True)
        table.add_column("samples", no_wrap=True, width=BAR_COLUMNS + 8 if wide else BAR_COLUMNS)
        table.add_column(_objective_head(board.sweep.objective), no_wrap=True, justify="right")
        table.add_column("loss", no_wrap=True, justify="right")
        if wide:
            table.add_column("grad norm", no_wrap=True, justify="right")
        table.add_column("verdict", no_wrap=True, overflow="ellipsis", ratio=1)
        best = board.best_entry()
        for entry in entries:
            table.add_row(*self._cells(board, entry, wide=wide, is_best=entry is best))
        return table

    def _cells(self, board: Board, entry: Entry, *, wide: bool, is_best: bool) -> list[RenderableType]:
        style = STYLES[entry.state]
        seen = entry.measurement
        cells: list[RenderableType] = [
            Text(entry.trial.name, style="bold green" if is_best else ""),
            Text("best" if is_best else entry.state.value, style="bold green" if is_best else style),
            _progress(entry, style, wide=wide),
            Text(number(board.objective(entry)), style="bold green" if is_best else ""),
            Text(number(seen.train_loss if seen else None)),
        ]
        if wide:
            cells.append(Text(number(seen.grad_norm if seen else None)))
        return [*cells, _verdict(entry)]


def _objective_head(objective: str) -> str:
    return objective.removeprefix("heldout_") if len(objective) > 12 else objective


def _progress(entry: Entry, style: str, *, wide: bool) -> RenderableType:
    bar = ProgressBar(
        total=1.0, completed=entry.share, width=BAR_COLUMNS, complete_style=style, finished_style=style, style="grey23"
    )
    if not wide:
        return bar
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(width=BAR_COLUMNS)
    grid.add_column(justify="right")
    grid.add_row(bar, count(entry.samples_seen))
    return grid


def _verdict(entry: Entry) -> Text:
    if entry.state is TrialState.FAIL:
        return Text(entry.detail.strip().split("\n")[-1], style="red")
    if entry.verdict is None:
        return Text(entry.trial.unpruned_because, style="dim")
    text = Text(entry.verdict.rule, style="yellow" if entry.verdict.prunes else "dim")
    return text.append(f"  {entry.verdict.reason}", style="default" if entry.verdict.prunes else "dim")
