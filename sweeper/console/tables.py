"""Tables that are printed once: how the cells of a sweep stand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeper.core.closing import HEAD_COLUMNS, closing_lines
from sweeper.core.figures import count, duration, number, plural
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepSummary, TrialRow, rank

PIPE_WIDTH: Final = 10_000
"""Columns where there is no terminal: nothing is cut off in a pipe."""


def console_on(stream: TextIO) -> Console:
    """Return a console that fits a terminal and cuts nothing off elsewhere."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPE_WIDTH)


def print_status(summary: SweepSummary, stream: TextIO | None = None) -> None:
    """Print every cell as it stands, and the closing text where all have ended."""
    console = console_on(stream or sys.stdout)
    left = sum(not TrialState(row.state).is_final for row in summary.rows)
    if not left:
        print_closing(console, summary, rows=len(summary.rows))
        return
    console.print(results_table(summary, rows=len(summary.rows), fit=console.is_terminal))
    total = plural(len(summary.rows), "cell")
    console.print(f"\n{left} of {total} not ended; sweeper resume {summary.sweep} goes on", soft_wrap=True)


def print_closing(console: Console, summary: SweepSummary, rows: int) -> None:
    """Print at most ``rows`` cells and what is said when a sweep has ended."""
    console.print(results_table(summary, rows=rows, fit=console.is_terminal))
    console.print()
    for line in closing_lines(summary):
        console.print(Text.assemble((line[:HEAD_COLUMNS], "bold"), line[HEAD_COLUMNS:]), soft_wrap=True)


def results_table(summary: SweepSummary, rows: int, *, fit: bool) -> Table:
    """Return at most ``rows`` cells: the completed ones best first, then the others by how far they came.

    ``fit`` cuts the last column off at the edge of the terminal.
    """
    best = "" if summary.best is None else summary.best.fingerprint
    # The best configuration's run comes first, though another seed of another one may have been luckier.
    ranked = sorted(
        rank(summary.rows, maximize=summary.direction == "maximize"), key=lambda row: row.fingerprint != best
    )
    names = {row.fingerprint for row in ranked}
    others = sorted((row for row in summary.rows if row.fingerprint not in names), key=lambda row: -row.samples_seen)
    table = plain_table("trial", "state", summary.objective, "samples", "time", "ended by", right=(2, 3, 4), fit=fit)
    for row in [*ranked, *others][:rows]:
        table.add_row(*_row_cells(row, is_best=row.fingerprint == best))
    hidden = len(summary.rows) - rows
    if hidden > 0:
        table.caption = f"{plural(hidden, 'more cell')}: sweeper status {summary.sweep}"
        table.caption_justify = "left"
    return table


def _row_cells(row: TrialRow, *, is_best: bool) -> list[Text]:
    style = "bold green" if is_best else ""
    ended_by = f"{row.rule}: {row.reason}" if row.rule else row.reason
    return [
        Text(row.name, style=style),
        Text("best" if is_best else row.state, style=style),
        Text(number(row.objective), style=style),
        Text(count(row.samples_seen)),
        Text(duration(row.train_s + row.eval_s)),
        Text(ended_by.strip().split("\n")[-1], style="dim"),
    ]


def plain_table(*heads: str, right: Sequence[int], fit: bool) -> Table:
    """Return a table without lines; ``right`` are the columns set right, ``fit`` cuts off at the terminal's edge."""
    table = Table(box=None, expand=fit, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, head in enumerate(heads):
        ratio = 1 if fit and index == len(heads) - 1 else None
        table.add_column(
            head, ratio=ratio, no_wrap=True, overflow="ellipsis", justify="right" if index in right else "left"
        )
    return table
