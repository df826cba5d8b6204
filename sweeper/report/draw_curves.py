"""Draws the learning curves and the scatters of early signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sweeper.core.space import short_number
from sweeper.report.costs import NAMES
from sweeper.report.curves import Curves, Line
from sweeper.report.draw import COLOURS, MUTED, PAPER, thousands
from sweeper.report.foretold import Scatter
from sweeper.report.record import Role

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE_INCHES: Final = (7.6, 4.3)
NARROW_INCHES: Final = (3.7, 4.4)
"""For a phone: 355 px, drawn anew instead of shrunk, so that its text stays as large."""
SCATTER_INCHES: Final = (3.7, 3.2)
LABEL_GAP: Final = 0.062
"""Least distance of two labels, as a share of the height."""
POINTER: Final[dict[str, Any]] = {
    "arrowstyle": "-",
    "color": MUTED,
    "linewidth": 0.6,
    "shrinkA": 1,
    "shrinkB": 2,
    "relpos": (0, 0.5),
}
"""The line from a label's left edge to the end of its curve."""
LOG_FROM: Final = 20.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""
STYLES: Final[dict[Role, dict[str, Any]]] = {
    "winner": {"linewidth": 2.8, "marker": "*", "markersize": 11, "zorder": 6},
    "complete": {"linewidth": 1.1, "alpha": 0.65, "zorder": 4},
    "pruned": {"linewidth": 1.0, "marker": "x", "markersize": 5, "zorder": 3},
    "guard": {"linewidth": 1.2, "linestyle": ":", "marker": "v", "markersize": 5, "zorder": 3},
    "failed": {"linewidth": 1.0, "linestyle": "-.", "marker": "s", "markersize": 4, "zorder": 3},
    "running": {"linewidth": 1.0, "linestyle": "--", "zorder": 5},
}


def paint_curves(curves: Curves, *, goal: str, resource: str, narrow: bool) -> Figure:
    """Return the picture of all learning curves; leaders carry their name at their end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=NARROW_INCHES if narrow else WIDE_INCHES, layout="constrained")
    axes = figure.subplots()
    for line in curves.lines:
        _paint_line(axes, line, crowd=len(curves.lines))
    axes.set_ylim(curves.low, curves.high)
    axes.set_xlim(left=0)
    thousands(axes)
    axes.set_xlabel(f"{resource} seen")
    axes.set_ylabel(f"{curves.signal} ({goal})" if goal else curves.signal)
    leaders = [line for line in reversed(curves.lines) if line.label]
    if narrow and leaders:
        _label(axes, leaders, [str(place) for place in range(1, len(leaders) + 1)])
        names = "\n".join(f"{place}  {_short(line.label, 42)}" for place, line in enumerate(leaders, 1))
        axes.set_title(names, loc="left", fontsize=8.5)
    elif leaders:
        _label(axes, leaders, [_short(line.label, 30) for line in leaders])
    figure.legend(handles=_handles(curves), loc="outside lower center", ncols=2 if narrow else 4, handlelength=2.4)
    return figure


def paint_scatter(scatter: Scatter, *, objective: str, resource: str) -> Figure:
    """Return the picture of one early signal against the final objective."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=SCATTER_INCHES, layout="constrained")
    axes = figure.subplots()
    # One call for all but the winner: a thousand calls would take eight seconds.
    roles: tuple[tuple[Role, str, int], ...] = (("complete", "o", 34), ("winner", "*", 150))
    for role, marker, size in roles:
        dots = [dot for dot in scatter.dots if dot.role == role]
        places = [dot.early for dot in dots], [dot.final for dot in dots]
        axes.scatter(*places, s=size, marker=marker, color=COLOURS[role], edgecolors=PAPER, linewidths=0.6, zorder=3)
    early = [dot.early for dot in scatter.dots]
    if min(early) > 0 and max(early) / min(early) >= LOG_FROM:
        axes.set_xscale("log")
        # The usual labels of a log axis are formulas, and names must never be read as formulas.
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.08)
    axes.set_xlabel(f"{scatter.signal} at {scatter.samples:,} {resource}")
    axes.set_ylabel(f"final {objective}")
    return figure


def _paint_line(axes: Axes, line: Line, *, crowd: int) -> None:
    style = {**STYLES[line.role], "color": COLOURS[line.role]}
    samples, values = line.curve.arrays()
    if line.label and line.role == "complete":
        style |= {"linewidth": 1.9, "alpha": 1.0, "zorder": 5}
    if len(samples) == 1 and "marker" not in style:
        style |= {"marker": "o", "markersize": 4}
    elif line.role == "complete" and not line.label:
        # 20 curves can be told apart at this strength; 200 would be one blot.
        style["alpha"] = max(0.25, min(0.65, 13 / crowd))
    elif "marker" in style:
        style["markevery"] = [len(samples) - 1]
    axes.plot(samples, values, **style)


def _label(axes: Axes, leaders: Sequence[Line], texts: Sequence[str]) -> None:
    """Write each text right of its curve's end, moved up or down where two would touch."""
    low, high = axes.get_ylim()
    ends = [(line.curve.values[-1] - low) / (high - low) for line in leaders]
    order = sorted(range(len(leaders)), key=lambda place: ends[place])
    heights: dict[int, float] = {}
    floor = -1.0
    for place in order:
        heights[place] = floor = max(ends[place], floor + LABEL_GAP)
    over = max(floor - 1.0, 0.0)
    right = axes.get_xlim()[1]
    for place, line in enumerate(leaders):
        end = (float(line.curve.samples[-1]), line.curve.values[-1])
        axes.annotate(
            texts[place],
            xy=end,
            xytext=(1.03, heights[place] - over),
            textcoords=axes.transAxes,
            color=COLOURS[line.role],
            fontsize=8.5,
            fontweight="bold" if line.role == "winner" else "normal",
            va="center",
            annotation_clip=False,
            arrowprops=POINTER,
        )
    axes.set_xlim(right=right)


def _handles(curves: Curves) -> list[Any]:
    from matplotlib.lines import Line2D

    amounts = Counter(line.role for line in curves.lines)
    names: dict[Role, str] = {"winner": "winner", **NAMES}
    return [
        Line2D([], [], **{**STYLES[role], "alpha": 1.0}, color=COLOURS[role], label=f"{name} ({amounts[role]})")
        for role, name in names.items()
        if amounts[role]
    ]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
