"""Draws one panel of the heatmap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sweeper.core.figures import number, percent
from sweeper.report.draw import COLOURS, INK, PAPER
from sweeper.report.grid import Panel, Slot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLOT_INCHES: Final = (0.66, 0.5)
EDGE_INCHES: Final = 0.12
CHARACTER_INCHES: Final = 0.075
"""Width of a character of the tick labels, a little generous."""
FAINTEST: Final = 3.0
"""Distances from the best to the median final at which the colours end; a diverged final would take all of them."""
STATES: Final = {"failed": "failed", "infeasible": "cannot\nrun", "waiting": "not\nstarted", "running": "running"}


def paint_heatmap(panel: Panel, finals: Sequence[float], *, maximize: bool, last: int) -> Figure:
    """Return the picture of a panel.

    Args:
        panel: at least one slot.
        finals: the final objectives of the whole sweep, from which all panels take their colours.
        maximize: whether higher is better.
        last: samples at which a trial ends by itself.
    """
    from matplotlib.figure import Figure

    left = 0.42 + CHARACTER_INCHES * max(len(text) for text in panel.rows) if panel.down else EDGE_INCHES
    columns, rows = len(panel.columns), len(panel.rows)
    longest = max(len(text) for text in panel.columns)
    slot_width = max(SLOT_INCHES[0], CHARACTER_INCHES * (longest + 1))
    width, height = left + columns * slot_width + EDGE_INCHES, EDGE_INCHES + rows * SLOT_INCHES[1] + 0.52
    figure = Figure(figsize=(width, height))
    place = (left / width, 0.52 / height, columns * slot_width / width, rows * SLOT_INCHES[1] / height)
    axes = figure.add_axes(place)
    for (row, column), slot in panel.slots.items():
        _paint_slot(axes, row, column, slot, _shade(slot, finals, maximize=maximize), last)
    axes.set(xlim=(0, columns), ylim=(rows, 0), xlabel=panel.across, ylabel=panel.down)
    axes.set_xticks([column + 0.5 for column in range(columns)], panel.columns)
    axes.set_yticks([row + 0.5 for row in range(rows)] if panel.down else [], panel.rows if panel.down else [])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def _paint_slot(axes: Axes, row: int, column: int, slot: Slot, shade: Any, last: int) -> None:
    from matplotlib.patches import Rectangle

    colour = COLOURS[slot.role]
    gap, is_end = 0.03, shade is not None
    style: dict[str, Any] = {"facecolor": shade, "edgecolor": PAPER, "linewidth": 0.5}
    if not is_end:
        dashes = {"pruned": "-", "guard": ":"}.get(slot.role, "--")
        style = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.2, "linestyle": dashes}
        gap = 0.06
    if slot.role == "winner":
        style |= {"edgecolor": INK, "linewidth": 2.4}
        gap = 0.05
    axes.add_patch(Rectangle((column + gap, row + gap), 1 - 2 * gap, 1 - 2 * gap, **style))
    first, second = _texts(slot, last)
    ink = _ink_on(shade) if is_end else colour
    across: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    weight = "bold" if slot.role == "winner" else "normal"
    middle = row + (0.36 if second else 0.5)
    axes.text(column + 0.5, middle, first, fontsize=9 if is_end else 8, fontweight=weight, **across)
    if second:
        axes.text(column + 0.5, row + 0.7, second, fontsize=7, fontweight=weight, **across)


def _texts(slot: Slot, last: int) -> tuple[str, str]:
    """Return what stands in the slot, in one or two lines."""
    if slot.role in ("complete", "winner"):
        repeats = f"{slot.repeats} runs" if slot.repeats > 1 else ""
        return number(slot.value, 3), "best" if slot.role == "winner" else repeats
    if slot.role in ("pruned", "guard"):
        word = "guard" if slot.role == "guard" else "cut"
        return number(slot.value, 3), f"{word} {percent(slot.at / last)}"
    if slot.role == "running" and slot.value is not None:
        return number(slot.value, 3), "running"
    return STATES[slot.role], ""


def _shade(slot: Slot, finals: Sequence[float], *, maximize: bool) -> tuple[float, ...] | None:
    """Return the colour of a final value, brighter where better; None for anything that is no final."""
    import matplotlib

    if slot.role not in ("complete", "winner") or slot.value is None or not math.isfinite(slot.value):
        return None
    ordered = sorted(finals, reverse=maximize)
    best, middle, worst = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    reach = min(abs(worst - best), FAINTEST * abs(middle - best) or abs(worst - best))
    behind = min(abs(slot.value - best) / reach, 1.0) if reach else 0.0
    return tuple(matplotlib.colormaps["viridis"](1 - behind))


def _ink_on(shade: Sequence[float]) -> str:
    """Return black or white, whichever stands out more (relative luminance of WCAG 2, section 1.4.3)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in shade[:3]]
    return "#000000" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 else "#ffffff"
