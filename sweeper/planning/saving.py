"""What pruning may save, as a range: from a small table of measured replays, or from a replay of a sweep like this one.

A range is what the same pruner saved on different grids, not an interval of confidence: how much can be saved depends
on how much of a grid is hopeless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sweeper.core.figures import percent
from sweeper.core.search import SearchConfig

_CALIBRATED: Final = {1: (0.10, 0.45), 4: (0.09, 0.44), 16: (0.07, 0.29)}
"""Least and most saved by ``calibrated`` at risk 0.02 over six recorded LoRA grids of 25 to 27 cells, by trials at a
time (docs/measurements.md, "Pruners on recorded grids")."""
_RISK: Final = {0.01: 0.91, 0.02: 1.0, 0.05: 1.13, 0.1: 1.24, 0.2: 1.42}
"""Mean saved at other risks, over that at 0.02 (same table)."""
_OTHERS: Final[Mapping[str, tuple[float, float, str]]] = {
    "non_finite": (0.0, 0.0, "guards end broken trials alone"),
    "divergence": (0.0, 0.0, "guards end broken trials alone"),
    "nop": (0.0, 0.0, "nothing is pruned"),
    "early_dynamics": (0.0, 0.31, "nothing on six LoRA grids without gradient norms, 29% to 31% on the quickstart"),
    "median": (0.33, 0.57, "LoRA grids, 16 trials at a time to 1; it lost the best half of the time"),
}
_LOCAL: Final = {1: (0.37, 0.78), 4: (0.21, 0.77)}
"""Least and most of the grid's cost that local search left out, nothing pruned, by trials at a time: ten recorded grids
(docs/presets.md)."""
ORDERS: Final = 5
"""Arrival orders of a replay of ``--like``: enough for a range, and seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """Share of the full grid's cost that pruning is expected to save."""

    low: float
    high: float
    origin: str
    """Where the range comes from, for people."""

    def text(self) -> str:
        return f"{percent(self.low)} to {percent(self.high)}" if self.high else "nothing"


def saving(
    pruner: Sequence[Any],
    *,
    cells: int,
    calibration: int,
    workers: int,
    hold_back: float,
    like: Sequence[str] = (),
    search: SearchConfig | None = None,
) -> Saving | None:
    """Return the range, or None where nothing is known of the pruner.

    Args:
        pruner: as the search space names it.
        cells: cells that can run.
        calibration: how many of them run to their end.
        workers: trials at a time.
        hold_back: share of prunes that are not carried out.
        like: recorded curves or sweeps to replay instead of looking into the table.
        search: which cells are run; None means all.
    """
    search = search or SearchConfig()
    found = _replayed(pruner, like, calibration, workers, search) if like else _looked_up(pruner, workers)
    if found is None or cells == 0:
        return None
    found = replace(found, low=found.low * (1 - hold_back), high=found.high * (1 - hold_back))
    if search.is_local and not like:
        found = _searched(found, workers)
    left_out = 0.0 if search.budget is None else max(0.0, 1 - search.budget / cells)
    # Calibration trials run to their end, and of the rest none can save more than all.
    most = max(0.0, 1 - calibration / cells)
    return replace(found, low=min(max(found.low, left_out), most), high=min(max(found.high, left_out), most))


def _searched(pruned: Saving, workers: int) -> Saving:
    """Return what a local search leaves out, or its pruner saves, whichever is more: what both save is not the sum."""
    low, high = _LOCAL[min(_LOCAL, key=lambda count: abs(count - workers))]
    origin = f"local search: ten recorded grids of 25 to 48 cells; {pruned.origin}"
    return Saving(low=max(low, pruned.low), high=max(high, pruned.high), origin=origin)


def _looked_up(pruner: Sequence[Any], workers: int) -> Saving | None:
    low, high, origins = 0.0, 0.0, []
    for item in pruner or ("nop",):
        name, settings = (item, {}) if isinstance(item, str) else next(iter(dict(item).items()), ("", {}))
        if name == "guards":
            continue
        if name == "calibrated":
            nearest = min(_CALIBRATED, key=lambda count: abs(count - workers))
            risk = (settings or {}).get("risk", 0.02) if isinstance(settings, Mapping) else 0.02
            factor = _RISK[min(_RISK, key=lambda known: abs(known - risk))]
            least, most = _CALIBRATED[nearest]
            one = (factor * least, factor * most, "six LoRA grids of 25 to 27 cells")
        elif name in _OTHERS:
            one = _OTHERS[name]
        else:
            return None
        low, high = max(low, one[0]), max(high, one[1])
        origins.append(f"{name}: {one[2]}")
    return Saving(low=low, high=high, origin="; ".join(origins))


def _replayed(
    pruner: Sequence[Any], like: Sequence[str], calibration: int, workers: int, search: SearchConfig
) -> Saving:
    """Replay recorded sweeps under this pruner; raises InputError where a source cannot be read."""
    from sweeper.core.layout import find_sweep, sweeps_root
    from sweeper.pruners.compose import from_spec
    from sweeper.replay.curves import load_curves
    from sweeper.replay.score import saved
    from sweeper.replay.simulate import simulate
    from sweeper.replay.sweeps import load_sweep

    shares = []
    for source in like:
        curves = Path(source)
        grid = load_curves(curves) if source.endswith(".jsonl") else load_sweep(find_sweep(source, sweeps_root()))[0]
        for seed in range(ORDERS):
            rule = from_spec(list(pruner), direction=grid.direction)
            # Another grid's axes may have other values than those to start from.
            ending = simulate(
                grid, rule, workers=workers, seed=seed, calibration=calibration, search=replace(search, start={})
            )
            shares.append(saved(grid, ending.stopped_at))
    names = ", ".join(Path(source).stem for source in like)
    return Saving(low=min(shares), high=max(shares), origin=f"replay of {names}, {ORDERS} orders")
