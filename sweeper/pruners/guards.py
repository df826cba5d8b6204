"""Guards: rules about a trial that is broken, not merely worse. They come before every pruner.

They also end calibration trials: a broken trial teaches nothing by running on.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.pruners.base import VerdictPruner, minimizes, require
from sweeper.pruners.history import (
    GRAD_NORM,
    OBJECTIVE,
    SEEN_STATES,
    TRAIN_LOSS,
    Curve,
    History,
    finite_peer_values,
    remembered,
)

MAX_PEERS: Final = 64
"""Peers that a median is taken over: more would not move it, and a sweep may have thousands."""


class NonFiniteGuard(VerdictPruner):
    """End a trial whose latest training loss, gradient norm or objective is NaN or infinite.

    Stock pruners disagree on non-finite values and some never prune them, so this rule comes first, before any
    statistics. It looks at the latest report only: earlier ones were judged when they came.
    """

    rule = "non_finite"

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the latest report; a signal that it does not hold is not judged."""
        past = remembered(study, trial)
        for signal in (TRAIN_LOSS, GRAD_NORM, OBJECTIVE):
            value = past.latest(signal)
            if value is not None and not math.isfinite(value):
                reason = f"{signal} is {value} at {past.samples_seen} samples"
                return prune(self.rule, reason, past.samples_seen, signals={signal: value})
        return proceed(self.rule, "all values are finite", past.samples_seen)


class DivergenceGuard(VerdictPruner):
    """End a trial whose loss or gradient norm has left a robust band and stays outside it.

    A value is outside where it is

    - above ``factor`` times the lowest value before it and above the trial's own ups and downs (``band`` robust
      standard deviations of its past moves), the rise being at least ``rise`` of the starting value: it was better;
    - training loss only: above the starting loss by the share ``rise``: it is worse than untrained;
    - above its peers' median at the same samples by ``factor`` and by ``band`` robust standard deviations of their
      logarithms, where at least ``min_peers`` peers got there: it exploded before its first report. Only a trial's
      first ``2 * patience`` reports after its warmup are compared so.

    The latest ``patience`` reports must all be outside, so a spike that has recovered by the next milestone is not
    divergence. Judged are reports after the trial's own warmup: training loss, gradient norm, and the objective where
    the study minimises it. A gradient norm counts only while the training loss is not at its lowest, for the norm of
    a good run may rise late (arXiv 2412.13337, A.5.8). Values at or below 0 and non-finite ones are left out: the
    former have no logarithm, the latter are ``NonFiniteGuard``'s.
    """

    rule = "divergence"

    def __init__(
        self,
        *,
        patience: int = 2,
        rise: float = 0.25,
        factor: float = 3.0,
        band: float = 5.0,
        min_peers: int = 3,
    ) -> None:
        """Check and keep the settings.

        Args:
            patience: reports in a row that must lie outside, at least 1. With 1 a spike ends its trial.
            rise: share of the starting value, above 0.
            factor: ratio that counts as far, above 1.
            band: robust standard deviations that count as far, above 0.
            min_peers: fewest peers whose median is believed, at least 2.
        """
        require(
            "patience", patience, lambda: patience >= 1 and int(patience) == patience, "must be a whole number >= 1"
        )
        require("rise", rise, lambda: 0 < rise < math.inf, "must be finite and above 0")
        require("factor", factor, lambda: 1 < factor < math.inf, "must be finite and above 1")
        require("band", band, lambda: 0 < band < math.inf, "must be finite and above 0")
        require("min_peers", min_peers, lambda: min_peers >= 2, "must be at least 2")
        self.patience, self.rise, self.factor, self.band = patience, rise, factor, band
        self.min_peers = min_peers

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the latest ``patience`` reports."""
        past = remembered(study, trial)
        signals = [TRAIN_LOSS, GRAD_NORM, *([OBJECTIVE] if minimizes(study) else [])]
        peers: list[FrozenTrial] | None = None
        for signal in signals:
            recent = self._recent(past, signal)
            if not recent or (signal == GRAD_NORM and _loss_is_lowest(past)):
                continue
            found = self._against_start(past, signal, recent) or self._against_own_past(past, signal, recent)
            if found is None and self._is_early(past, signal):
                peers = _some_peers(study, trial) if peers is None else peers
                found = self._against_peers(study, peers, past, signal, recent)
            if found is not None:
                return found
        return proceed(self.rule, "loss and gradient norm are within their bands", past.samples_seen)

    def _recent(self, past: History, signal: str) -> list[tuple[int, float]]:
        """Return the latest ``patience`` reports of a signal, or nothing where they are too few or not judged."""
        curve = past.curve(signal)
        if past.latest(signal) is None or len(curve) < self.patience:
            return []
        recent = list(zip(curve.samples[-self.patience :], curve.values[-self.patience :], strict=True))
        judged = all(s >= past.warmup_end and math.isfinite(v) and v > 0 for s, v in recent)
        return recent if judged else []

    def _is_early(self, past: History, signal: str) -> bool:
        """Return whether the trial has few reports after its warmup: later ones have a past of their own to show."""
        return sum(samples >= past.warmup_end for samples in past.curve(signal).samples) <= 2 * self.patience

    def _against_start(self, past: History, signal: str, recent: list[tuple[int, float]]) -> Verdict | None:
        start = _start(past, signal)
        if signal != TRAIN_LOSS or start is None:
            return None
        limit = start * (1 + self.rise)
        if not all(value > limit for _, value in recent):
            return None
        reason = (
            f"{signal} is {recent[-1][1]:.4g} at {past.samples_seen} samples, above its own starting value "
            f"{start:.4g} by more than {self.rise:.0%} for {self.patience} milestones"
        )
        return self._prune(past, signal, recent, reason, {f"{signal}_at_start": start}, limit)

    def _against_own_past(self, past: History, signal: str, recent: list[tuple[int, float]]) -> Verdict | None:
        before = _before(past.curve(signal), recent[0][0])
        start = _start(past, signal)
        if not before or start is None:
            return None
        lowest = min(before)
        limit = max(lowest * self.factor, lowest + self.rise * start)
        if not all(value > limit for _, value in recent):
            return None
        # Asked last: the scatter costs more than all the rest, and hardly any trial comes this far.
        limit = max(limit, lowest * math.exp(self.band * _scatter(_moves(before))))
        if not all(value > limit for _, value in recent):
            return None
        reason = (
            f"{signal} is {recent[-1][1]:.4g} at {past.samples_seen} samples after {lowest:.4g} before, "
            f"above its own band ({limit:.4g}) for {self.patience} milestones"
        )
        return self._prune(past, signal, recent, reason, {f"{signal}_lowest_before": lowest}, limit)

    def _against_peers(
        self,
        study: optuna.Study,
        peers: list[FrozenTrial],
        past: History,
        signal: str,
        recent: list[tuple[int, float]],
    ) -> Verdict | None:
        median = limit = math.nan
        for samples, value in recent:
            if self._is_ordinary(study, peers, signal, samples, value):
                return None
            logs = [math.log(v) for v in finite_peer_values(study, peers, signal, samples) if v > 0]
            if len(logs) < self.min_peers:
                return None
            middle = statistics.median(logs)
            limit = math.exp(middle + max(math.log(self.factor), self.band * _scatter(logs)))
            median = math.exp(middle)
            if value <= limit:
                return None
        reason = (
            f"{signal} is {recent[-1][1]:.4g} at {past.samples_seen} samples against a peers' median of {median:.4g}, "
            f"above their band ({limit:.4g}) for {self.patience} milestones"
        )
        return self._prune(past, signal, recent, reason, {f"{signal}_median": median}, limit)

    def _is_ordinary(
        self, study: optuna.Study, peers: list[FrozenTrial], signal: str, samples: int, value: float
    ) -> bool:
        """Return whether more than half of all peers, and so their median, come within ``factor`` of the value.

        Most trials are ordinary, and half of the peers tell it: 10,000 trials are judged in half the time.
        """
        needed = len(peers) // 2 + 1
        near = (v for v in finite_peer_values(study, peers, signal, samples) if v * self.factor >= value)
        return sum(1 for _ in itertools.islice(near, needed)) == needed

    def _prune(
        self,
        past: History,
        signal: str,
        recent: list[tuple[int, float]],
        reason: str,
        peers: dict[str, float],
        limit: float,
    ) -> Verdict:
        own = {signal: recent[-1][1]}
        return prune(self.rule, reason, past.samples_seen, signals=own, peers=peers, threshold=limit)


def _some_peers(study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return about ``MAX_PEERS`` peers, evenly spread over the study; all of them in a small one.

    Strides through the study until it has enough: to go through 10,000 trials at each decision takes 2 ms.
    """
    everyone = study.get_trials(deepcopy=False)
    stride = max(1, len(everyone) // MAX_PEERS)
    found: list[FrozenTrial] = []
    for offset in range(stride):
        found += [t for t in everyone[offset::stride] if t.state in SEEN_STATES and t.number != trial.number]
        if len(found) >= MAX_PEERS:
            break
    return found


def _start(past: History, signal: str) -> float | None:
    """Return the value from which a rise counts: the untrained model's loss where recorded, else the first report."""
    values = past.curve(signal).values
    start = past.start_loss if signal == TRAIN_LOSS and past.start_loss is not None else values[0] if values else None
    return start if start is not None and math.isfinite(start) and start > 0 else None


def _before(curve: Curve, samples: int) -> list[float]:
    points = zip(curve.samples, curve.values, strict=True)
    return [v for s, v in points if s < samples and math.isfinite(v) and v > 0]


def _moves(values: Sequence[float]) -> list[float]:
    """Return each value's change from the one before it, in logarithms.

    Their scatter is the trial's usual noise; a steady climb has none, so it cannot widen its own band.
    """
    return [math.log(after / before) for before, after in itertools.pairwise(values)]


def _scatter(values: Sequence[float]) -> float:
    """Return the robust standard deviation: 1.4826 times the median distance from the median (exact for a normal)."""
    if not values:
        return 0.0
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


def _loss_is_lowest(past: History) -> bool:
    values = [value for value in past.curve(TRAIN_LOSS).values if math.isfinite(value)]
    return len(values) > 1 and past.latest(TRAIN_LOSS) == min(values)
