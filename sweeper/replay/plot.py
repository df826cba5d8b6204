"""Saved against kept as a picture: one panel per family of grids, one mark per pruner."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scipy.special import stdtrit

from sweeper.core.errors import InputError
from sweeper.replay.curves import Grid
from sweeper.replay.score import TIE, regret, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES: Final = (".png", ".svg")
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, "Color Universal Design" (2008), without its yellow, which is faint on white."""
MARKERS: Final = "oDs^vPX*<>dph"
PANEL_INCHES: Final = (4.3, 4.0)
PANELS_PER_ROW: Final = 3
LEGEND_INCHES: Final = 0.24


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """One pruner on one grid with one number of workers, arrival order by arrival order."""

    grid: str
    pruner: str
    workers: int
    saved: tuple[float, ...]
    kept: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        grid: Grid,
        pruner: str,
        workers: int,
        endings: Sequence[Sequence[int | None]],
        spent: Sequence[float] | None = None,
    ) -> Orders:
        """Return what each order saved and whether it kept the best; an ending says where every trial was stopped.

        ``spent``: what each order cost, where that is more than what its trials have seen.
        """
        costs = [None] * len(endings) if spent is None else spent
        return cls(
            grid=grid.name,
            pruner=pruner,
            workers=workers,
            saved=tuple(saved(grid, stops, cost) for stops, cost in zip(endings, costs, strict=True)),
            kept=tuple(regret(grid, stops) <= TIE for stops in endings),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Where a pruner stands in a panel: means over its grids, workers and orders, each with its 95% half-width."""

    saved: float
    kept: float
    saved_error: float
    kept_error: float


def check_picture(path: Path) -> None:
    """Refuse a file whose ending names no format that can be drawn.

    Raises:
        InputError: the ending is neither ``.png`` nor ``.svg``.
    """
    if path.suffix not in SUFFIXES:
        raise InputError("must end in .png or .svg", where="--plot", got=str(path))


def panel_of(grid: str) -> str:
    """Return the family of a grid: its name up to the first underscore."""
    return grid.split("_")[0]


def mark(rows: Sequence[Orders]) -> Mark:
    """Return the mean over all rows and orders.

    The error is that of the orders: each order's mean over all rows is one draw. 0 for a single order, and where all
    orders agree.
    """
    orders = min(len(row.saved) for row in rows)
    by_order = [
        (statistics.fmean(row.saved[place] for row in rows), statistics.fmean(row.kept[place] for row in rows))
        for place in range(orders)
    ]
    mean_saved, mean_kept = (statistics.fmean(each[axis] for each in by_order) for axis in (0, 1))
    saved_error, kept_error = (_half_width([each[axis] for each in by_order]) for axis in (0, 1))
    return Mark(saved=mean_saved, kept=mean_kept, saved_error=saved_error, kept_error=kept_error)


def draw(found: Sequence[Orders], path: Path, targets: Mapping[str, float]) -> None:
    """Write the picture; a file of this name is replaced.

    Args:
        found: at least one.
        path: ends in ``.png`` or ``.svg``.
        targets: share of sweeps in which the best should be kept, by pruner, drawn as a line in the pruner's colour.
    """
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(panel_of(each.grid) for each in found))
    pruners = list(dict.fromkeys(each.pruner for each in found))
    columns = min(len(panels), PANELS_PER_ROW)
    rows = math.ceil(len(panels) / columns)
    legend_columns = min(3, columns + 1)
    legend_rows = math.ceil((len(pruners) + bool(targets)) / legend_columns)
    size = max(PANEL_INCHES[0] * columns, 5.5), PANEL_INCHES[1] * rows + LEGEND_INCHES * legend_rows
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel, place in zip(panels, axes.flat, strict=False):
        mine = [each for each in found if panel_of(each.grid) == panel]
        _draw_panel(place, panel, mine, pruners, targets)
    for place in list(axes.flat)[len(panels) :]:
        place.set_axis_off()
    if targets:
        axes.flat[0].plot([], [], color="0.3", linestyle=":", linewidth=1, label="what a dial of this colour promises")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    plain = [re.sub(r"[\[\]{}]", "", label) for label in labels]
    figure.legend(handles, plain, loc="outside lower center", ncols=legend_columns, frameon=False, fontsize=9)
    figure.savefig(path, dpi=160)


def _draw_panel(
    axes: Axes, panel: str, found: Sequence[Orders], pruners: Sequence[str], targets: Mapping[str, float]
) -> None:
    marks = {pruner: mark([each for each in found if each.pruner == pruner]) for pruner in pruners}
    for place, (pruner, at) in enumerate(marks.items()):
        if pruner in targets:
            axes.axhline(targets[pruner], color=COLOURS[place % len(COLOURS)], linestyle=":", linewidth=1, zorder=1)
        below, above = min(at.kept_error, at.kept), min(at.kept_error, 1 - at.kept)
        style: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        axes.errorbar(
            [at.saved],
            [at.kept],
            xerr=[at.saved_error],
            yerr=[[below], [above]],
            linestyle="none",
            markersize=8,
            markeredgecolor="white",
            elinewidth=1,
            label=pruner,
            clip_on=False,
            zorder=3,
            **style,
        )
    grids, workers = {each.grid for each in found}, sorted({each.workers for each in found})
    title = panel if len(grids) > 1 else next(iter(grids))
    note = f"{len(grids)} grids" if len(grids) > 1 else "1 grid"
    orders, counts = len(found[0].saved), ", ".join(map(str, workers))
    axes.set_title(f"{title}\n", fontsize=11, loc="left", fontweight="bold")
    axes.text(
        0, 1.02, f"{note}, {orders} orders, workers {counts}", transform=axes.transAxes, fontsize=8.5, color="0.35"
    )
    # From tenth to tenth around the marks: easy grids have all of them in a narrow band.
    left = math.floor(10 * min(at.saved - at.saved_error for at in marks.values())) / 10
    right = math.ceil(10 * max(at.saved + at.saved_error for at in marks.values())) / 10
    axes.set(
        xlim=(max(left, 0), min(right, 1)),
        ylim=(0, 1.02),
        xlabel="saved: share of the grid's cost",
        ylabel="kept: share of sweeps",
    )
    axes.label_outer(remove_inner_ticks=False)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _half_width(draws: Sequence[float]) -> float:
    if len(draws) < 2:
        return 0.0
    return float(stdtrit(len(draws) - 1, 0.975)) * statistics.stdev(draws) / math.sqrt(len(draws))
