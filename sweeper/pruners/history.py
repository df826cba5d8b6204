"""A trial's past as curves on the samples axis, so that trials of different batch sizes can be compared.

NaN policy, the same everywhere: non-finite values are kept as they came, and a value asked for between two points is
NaN where either neighbour is not finite. Outside the measured range there is no value: nothing is extrapolated.
"""

from __future__ import annotations

import math
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from sweeper.pruners.record import MILESTONE_PREFIX

OBJECTIVE: Final = "objective"
TRAIN_LOSS: Final = "train_loss"
GRAD_NORM: Final = "grad_norm"
SEEN_STATES: Final = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
"""States in which a trial's measurements say something about its configuration; a failed one speaks of the machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One signal at rising sample counts."""

    samples: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def value_at(self, samples: float) -> float | None:
        """Return the linearly interpolated value, None outside the measured range, NaN beside a non-finite point."""
        index = bisect_left(self.samples, samples)
        if index == len(self.samples):
            return None
        if self.samples[index] == samples:
            return self.values[index]
        if index == 0:
            return None
        before, after = self.values[index - 1], self.values[index]
        if not (math.isfinite(before) and math.isfinite(after)):
            return math.nan
        share = (samples - self.samples[index - 1]) / (self.samples[index] - self.samples[index - 1])
        return before + share * (after - before)

    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return samples and values as arrays of equal length."""
        return np.asarray(self.samples, dtype=np.int64), np.asarray(self.values, dtype=np.float64)


_EMPTY: Final = Curve()


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Everything one trial has reported so far."""

    curves: Mapping[str, Curve]
    """By signal: ``objective``, ``train_loss``, ``grad_norm``, each score and each extra by its own name."""
    samples_seen: int
    """The latest report; 0 where there is none."""
    start_loss: float | None = None
    """Train loss of the very first optimizer step, before any update; None where it was not recorded."""
    warmup_end: float = 0.0
    """Samples from which measurements are free of warmup; infinite while warmup lasts, 0 where nothing is known."""
    marks: tuple[int, ...] = field(default=())
    """Samples seen at each measurement, in order."""

    def curve(self, signal: str) -> Curve:
        """Return the signal's curve; an empty one where it was never reported."""
        return self.curves.get(signal, _EMPTY)

    def value_at(self, signal: str, samples: float) -> float | None:
        """Return the signal at this samples count; see ``Curve.value_at``."""
        return self.curve(signal).value_at(samples)

    def warm_value_at(self, signal: str, samples: float) -> float | None:
        """Return the signal as ``value_at`` does, but None while the trial was still warming up there."""
        return None if samples < self.warmup_end else self.value_at(signal, samples)

    def latest(self, signal: str) -> float | None:
        """Return the signal's value at the latest report, or None where that report does not hold it."""
        curve = self.curve(signal)
        return curve.values[-1] if curve.samples and curve.samples[-1] == self.samples_seen else None


def history(trial: FrozenTrial | optuna.Trial) -> History:
    """Read a trial's record back as curves; works on a plain Optuna trial, which has an objective only."""
    entries = sorted(
        (value for key, value in trial.user_attrs.items() if key.startswith(MILESTONE_PREFIX)),
        key=lambda entry: int(entry["samples_seen"]),
    )
    if isinstance(trial, optuna.Trial):
        trial = trial.storage.get_trial(trial._trial_id)
    points: dict[str, list[tuple[int, float]]] = {}
    if trial.intermediate_values:
        points[OBJECTIVE] = sorted(trial.intermediate_values.items())
    for entry in entries:
        for name, value in _signals(entry).items():
            points.setdefault(name, []).append((int(entry["samples_seen"]), value))
    marks = tuple(sorted({s for each in points.values() for s, _ in each}))
    curves = {name: _curve(each, marks) for name, each in points.items()}
    return History(
        curves=curves,
        samples_seen=marks[-1] if marks else 0,
        start_loss=float(entries[0]["first_loss"]) if entries and "first_loss" in entries[0] else None,
        warmup_end=_warmup_end(entries),
        marks=marks,
    )


def _curve(points: list[tuple[int, float]], marks: tuple[int, ...]) -> Curve:
    """Return the points as a curve; one that has a value at every mark shares their tuple."""
    samples = marks if len(points) == len(marks) else tuple(s for s, _ in points)
    return Curve(samples=samples, values=tuple(v for _, v in points))


def _signals(entry: Mapping[str, Any]) -> dict[str, float]:
    named = {name: entry[name] for name in (TRAIN_LOSS, GRAD_NORM) if name in entry}
    together = {**entry.get("extra", {}), **entry.get("scores", {}), **named}
    # float() also reads the strings NaN and Infinity that stand for non-finite numbers.
    return {name: float(value) for name, value in together.items() if name != OBJECTIVE}


def _warmup_end(entries: list[dict[str, Any]]) -> float:
    if not entries:
        return 0.0
    warm = [int(entry["samples_seen"]) for entry in entries if entry.get("warmup_done", True)]
    return float(warm[0]) if warm else math.inf


@dataclass(frozen=True, slots=True)
class _Memory:
    """A history and how much of the trial's record it was read from."""

    num_attrs: int
    num_values: int
    num_milestones: int
    history: History


_memory: weakref.WeakKeyDictionary[BaseStorage, dict[int, _Memory]] = weakref.WeakKeyDictionary()


def remembered(study: optuna.Study, trial: FrozenTrial) -> History:
    """Return ``history(trial)``, read once per report: 2,000 trials x 50 milestones cost 1 ms a decision, not 1 s.

    A trial's record only grows, so the number of its entries tells whether the remembered reading is still whole.
    """
    known = _memory.setdefault(study._storage, {})
    found = known.get(trial._trial_id)
    attrs, values = trial.user_attrs, trial.intermediate_values
    if found is not None and found.num_attrs == len(attrs) and found.num_values == len(values):
        return found.history
    num_milestones = len([key for key in attrs if key.startswith(MILESTONE_PREFIX)])
    grown = None if found is None else _with_latest(found, trial, num_milestones)
    fresh = history(trial) if grown is None else grown
    known[trial._trial_id] = _Memory(len(attrs), len(values), num_milestones, fresh)
    return fresh


def _with_latest(found: _Memory, trial: FrozenTrial, num_milestones: int) -> History | None:
    """Return the remembered history with one more report, or None where more than that has changed.

    Reading the whole record again at each report would cost a trial of 50 milestones 1,275 readings.
    """
    # The first report is read in full: it sets the starting loss and the warmup.
    past, key = found.history, next(reversed(trial.user_attrs), "")
    if found.num_milestones == 0 or num_milestones != found.num_milestones + 1 or not key.startswith(MILESTONE_PREFIX):
        return None
    entry = trial.user_attrs[key]
    samples, added = int(entry["samples_seen"]), len(trial.intermediate_values) - found.num_values
    if samples <= past.samples_seen or added > 1 or (added == 1 and samples not in trial.intermediate_values):
        return None
    new = _signals(entry)
    if added:
        new[OBJECTIVE] = trial.intermediate_values[samples]
    curves, marks = dict(past.curves), (*past.marks, samples)
    for name, value in new.items():
        curve = curves.get(name, _EMPTY)
        places = marks if curve.samples is past.marks else (*curve.samples, samples)
        curves[name] = Curve(samples=places, values=(*curve.values, value))
    warm = past.warmup_end == math.inf and entry.get("warmup_done", True)
    return replace(
        past,
        curves=curves,
        samples_seen=samples,
        marks=marks,
        warmup_end=float(samples) if warm else past.warmup_end,
    )


def peers_of(study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the study's other trials that were started and did not fail, oldest first."""
    others = study.get_trials(deepcopy=False, states=SEEN_STATES)
    return [other for other in others if other.number != trial.number]


def finite_peer_values(study: optuna.Study, peers: list[FrozenTrial], signal: str, samples: float) -> Iterator[float]:
    """Yield the peers' finite values of a signal at this samples count, each past its own warmup."""
    for peer in peers:
        value = remembered(study, peer).warm_value_at(signal, samples)
        if value is not None and math.isfinite(value):
            yield value
