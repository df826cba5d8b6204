"""One trial's objective as the forecasters see it: minimised, finite, and without spikes that recovered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
STALL_MEMORY: Final = 0.1
"""Share of its samples without a gain after which a trial's best so far stands in for its final value."""
STALL_REPORTS: Final = 4
"""Fewest reports of such a trial: one that has just begun has not stalled, whatever its first values were."""
_NONE = np.zeros(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """One trial's objective so far, minimised, finite, at rising sample counts."""

    samples: Floats
    values: Floats
    """The value that would be final if nothing were gained from here on: best so far, or the latest."""
    gained_at: Floats
    """Samples of the latest gain, at each point."""
    final: float | None
    """Its final value, where it ran to its end."""
    cell: int
    """Row of the configuration in the embedding."""
    step_back: float
    """Root mean square of the steps for the worse; 0 where the best counts."""
    signals: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    """Finite values of further signals, by name: sample counts and values."""

    @property
    def now(self) -> float:
        return float(self.samples[-1])

    @property
    def value(self) -> float:
        return float(self.values[-1])

    @property
    def end(self) -> float:
        """The final value, else the present one; never better than the curve shows.

        A run may be ranked by a value that no report holds, as a diverged one by that of the untrained model. When that
        was reached is not known, and it must not pass for a gain at the end.
        """
        return self.value if self.final is None else max(self.final, self.value)

    @property
    def stall(self) -> float:
        """Share of its samples since the latest gain."""
        return float((self.samples[-1] - self.gained_at[-1]) / self.samples[-1])

    def at(self, samples: float) -> float:
        """Return the interpolated value; the first or last one outside the measured range."""
        return float(np.interp(samples, self.samples, self.values))

    def until(self, samples: float) -> Path | None:
        """Return the path as it was known at this samples count, its end unknown; None where it had not begun."""
        count = int(np.searchsorted(self.samples, samples, side="right"))
        if count == 0:
            return None
        return Path(
            samples=self.samples[:count],
            values=self.values[:count],
            gained_at=self.gained_at[:count],
            final=None,
            cell=self.cell,
            step_back=_step_back(self.values[:count]),
            signals={name: (at[at <= samples], value[at <= samples]) for name, (at, value) in self.signals.items()},
        )

    def signal_at(self, name: str, samples: float) -> float:
        """Return the signal interpolated at this samples count, its last value later on; NaN before the first."""
        at, value = self.signals.get(name, (_NONE, _NONE))
        return float(np.interp(samples, at, value)) if len(at) and at[0] <= samples else math.nan

    def gain_before(self, samples: float) -> float | None:
        """Return what was gained over the second half of the way to ``samples``, None where that was not measured."""
        if self.samples[0] > samples / 2 or self.samples[-1] < samples:
            return None
        return self.at(samples / 2) - self.at(samples)


def make_path(
    samples: Sequence[int],
    values: Sequence[float],
    *,
    final: float | None,
    cell: int,
    best_counts: bool,
    signals: Mapping[str, tuple[Sequence[int], Sequence[float]]] | None = None,
) -> Path | None:
    """Return the path of finite points, or None where there is none.

    Args:
        samples: rising sample counts.
        values: the objective there, minimised; non-finite ones are left out.
        final: the final value, or None while it is not known.
        cell: row of the configuration.
        best_counts: whether a trial is ranked by its best value, else by its latest. A step back then counts from the
            next report on, so that a spike which recovers is none.
        signals: further signals by name, sample counts and values; non-finite ones are left out.
    """
    at, value = np.asarray(samples, dtype=np.float64), np.asarray(values, dtype=np.float64)
    finite = np.isfinite(value) & (at > 0)
    at, value = at[finite], value[finite]
    if not len(at):
        return None
    lowest = np.minimum.accumulate(value)
    fresh = np.concatenate(([True], value[1:] < lowest[:-1]))
    # Where the latest value counts, a trial may lose what it had: no stall says where it will end.
    gained_at = np.maximum.accumulate(np.where(fresh, at, 0.0)) if best_counts else at
    values_here = lowest if best_counts else np.minimum(value, np.concatenate((value[:1], value[:-1])))
    return Path(
        samples=at,
        values=values_here,
        gained_at=gained_at,
        final=final,
        cell=cell,
        step_back=_step_back(values_here),
        signals=_finite(signals or {}),
    )


def _step_back(values: Floats) -> float:
    steps = np.diff(values)
    back = steps[steps > 0]
    return float(np.sqrt(np.mean(back**2))) if len(back) else 0.0


def _finite(signals: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> dict[str, tuple[Floats, Floats]]:
    arrays = {name: tuple(np.asarray(part, dtype=np.float64) for part in pair) for name, pair in signals.items()}
    return {name: (at[np.isfinite(value)], value[np.isfinite(value)]) for name, (at, value) in arrays.items()}


def stands(peer: Path) -> bool:
    """Return whether the trial's value stands for its final one: it has ended, or stalled for long."""
    return peer.final is not None or (peer.stall >= STALL_MEMORY and len(peer.samples) >= STALL_REPORTS)
