"""The paper's rule (arXiv 2412.13337): lower early gradient norm and higher early loss foretell a better final model.

The paper states a direction and nothing more: no window, no threshold, no error rate. It also never tried a learning
rate so low that nothing is learned, and such a run has a low norm and a high loss too. Hence the directions are a
weak prior that the sweep's own finished trials can overturn, and a trial that has not begun to learn is never taken
for a calm one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper.core.decode import nearest
from sweeper.core.errors import InputError
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.pruners.base import VerdictPruner, minimizes, require
from sweeper.pruners.history import (
    GRAD_NORM,
    OBJECTIVE,
    TRAIN_LOSS,
    History,
    finite_peer_values,
    peers_of,
    remembered,
)
from sweeper.pruners.record import is_calibration, planned_samples
from sweeper.pruners.statistics import badness, rank_correlation

Direction = Literal["lower", "higher"]
PAPER_DIRECTIONS: Final[Mapping[str, Direction]] = {TRAIN_LOSS: "higher", GRAD_NORM: "lower"}
PRIOR_TRIALS: Final = 4.0
"""Finished trials that the prior is worth. With 4, a third of the trials of a 12-cell grid can overturn it."""
PRIOR_CORRELATION: Final[Mapping[str, float]] = {OBJECTIVE: 0.6, TRAIN_LOSS: 0.3, GRAD_NORM: 0.3}
"""Assumed rank correlation of the good direction with the final objective: an early objective tells more than the
dynamics. Free choices; the paper gives no correlation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Standing:
    """One signal of one trial among its peers."""

    signal: str
    value: float
    correlation: float
    """Believed rank correlation of "higher" with "better in the end", -1 to 1."""
    badness: float
    """Share of the peers that stand better, 0 (best) to 1 (worst), at the better of the latest two reports."""
    num_peers: int

    @property
    def cautious(self) -> float:
        """Badness with one undecided peer more: behind 2 of 3 peers says less than behind 20 of 30."""
        return (self.num_peers * self.badness + 0.5) / (self.num_peers + 1)


class EarlyDynamicsPruner(VerdictPruner):
    """Rank gradient norm, training loss and held-out objective against peers at the same samples seen.

    Each signal gives a trial its badness: the share of peers that stand better, at the better of its latest two
    reports, for a spike may recover. The badnesses, each with one undecided peer added (three peers weigh less than
    thirty), are averaged, each weighted by how strongly its signal is believed to foretell the final objective: the
    paper's direction as a prior worth four finished trials, mixed with the rank correlation among the trials that did
    finish. A trial ends where the average reaches ``threshold`` and at least two signals put it into the worse half.

    Never ended: a trial before its own warmup is over or past ``until`` of its samples (the paper speaks of early
    values, and the norm of its good runs rises late), one with fewer than ``min_peers`` peers, one whose held-out
    objective is in its peers' better half, the last survivor, a calibration trial.

    A trial whose loss has not fallen by ``min_progress`` of the starting loss gets no credit for a low norm and a
    high loss: both count as worst. Non-finite values are left out of every ranking; the guards end such trials.
    """

    rule = "early_dynamics"

    def __init__(
        self,
        *,
        min_peers: int = 3,
        threshold: float = 0.7,
        until: float = 0.6,
        min_progress: float = 0.02,
        directions: Mapping[str, Direction] | None = None,
        learn_directions: bool = True,
    ) -> None:
        """Check and keep the settings.

        Args:
            min_peers: fewest peers at the same samples, at least 2.
            threshold: weighted badness from which a trial ends, above 0.5 and at most 1.
            until: share of a trial's samples after which it is left alone, above 0 and at most 1.
            min_progress: fall of the training loss, as a share of the starting loss, that counts as learning.
            directions: which values of ``train_loss`` and ``grad_norm`` are good, ``lower`` or ``higher``; the
                paper's where left out.
            learn_directions: let finished trials overturn the directions; false keeps them as given.
        """
        require("min_peers", min_peers, lambda: min_peers >= 2, "must be at least 2")
        require("threshold", threshold, lambda: 0.5 < threshold <= 1, "must be above 0.5 and at most 1")
        require("until", until, lambda: 0 < until <= 1, "must be above 0 and at most 1")
        require("min_progress", min_progress, lambda: 0 <= min_progress < 1, "must be in [0, 1)")
        for signal, direction in (directions or {}).items():
            if signal not in PAPER_DIRECTIONS:
                raise InputError(
                    "unknown signal", where="directions", got=signal, mend=nearest(signal, PAPER_DIRECTIONS)
                )
            if direction not in ("lower", "higher"):
                raise InputError("must be lower or higher", where=f"directions.{signal}", got=direction)
        self.min_peers, self.threshold, self.until, self.min_progress = min_peers, threshold, until, min_progress
        self.directions = {**PAPER_DIRECTIONS, **(directions or {})}
        self.learn_directions = learn_directions

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial at its latest report."""
        past = remembered(study, trial)
        peers = peers_of(study, trial)
        spared = self._spared(study, trial, past, peers)
        if spared is not None:
            return proceed(self.rule, spared, past.samples_seen)
        learning = self._has_progressed(past)
        standings = [s for s in (self._standing(study, peers, past, n, learning) for n in PRIOR_CORRELATION) if s]
        return self._weigh(past, standings, learning)

    def _spared(self, study: optuna.Study, trial: FrozenTrial, past: History, peers: list[FrozenTrial]) -> str | None:
        """Return why this trial is not judged now, or None where it is."""
        if is_calibration(trial):
            return "a calibration trial runs to its end"
        if past.samples_seen < past.warmup_end:
            return "still in its warmup"
        planned = planned_samples(trial) or max((remembered(study, p).samples_seen for p in peers), default=0)
        if past.samples_seen > self.until * planned:
            return f"past {self.until:.0%} of its samples: no longer early"
        if not any(p.state in (TrialState.COMPLETE, TrialState.RUNNING) for p in peers):
            return "the last survivor"
        return None

    def _has_progressed(self, past: History) -> bool:
        values = past.curve(TRAIN_LOSS).values
        start = past.start_loss if past.start_loss is not None else values[0] if len(values) > 1 else None
        # Without a starting loss nothing says that it has not begun to learn.
        return start is None or not values or values[-1] <= start - self.min_progress * abs(start)

    def _standing(
        self, study: optuna.Study, peers: list[FrozenTrial], past: History, signal: str, learning: bool
    ) -> _Standing | None:
        value = past.latest(signal)
        if value is None or not math.isfinite(value):
            return None
        theirs = list(finite_peer_values(study, peers, signal, past.samples_seen))
        if len(theirs) < self.min_peers:
            return None
        correlation = self._believed(study, peers, signal, past.samples_seen)
        share = badness(value, theirs, higher_is_better=correlation > 0)
        if signal != OBJECTIVE and not learning:
            share = 1.0
        elif share > 0.5:
            share = min(share, self._badness_before(study, peers, past, signal, correlation))
        return _Standing(signal=signal, value=value, correlation=correlation, badness=share, num_peers=len(theirs))

    def _badness_before(
        self, study: optuna.Study, peers: list[FrozenTrial], past: History, signal: str, correlation: float
    ) -> float:
        """Return the badness at the report before the latest, 1 where there is none: a spike alone condemns nobody."""
        before = past.curve(signal).samples[-2:-1]
        if not before or before[0] < past.warmup_end:
            return 1.0
        value = past.value_at(signal, before[0])
        theirs = list(finite_peer_values(study, peers, signal, before[0]))
        if value is None or not math.isfinite(value) or len(theirs) < self.min_peers:
            return 1.0
        return badness(value, theirs, higher_is_better=correlation > 0)

    def _believed(self, study: optuna.Study, peers: list[FrozenTrial], signal: str, samples: int) -> float:
        """Return the correlation of "higher" with "better": the prior mixed with what finished trials show."""
        if signal == OBJECTIVE:
            return PRIOR_CORRELATION[signal] * (-1 if minimizes(study) else 1)
        prior = PRIOR_CORRELATION[signal] * (1 if self.directions[signal] == "higher" else -1)
        if not self.learn_directions:
            return prior
        sign = -1 if minimizes(study) else 1
        pairs = []
        for peer in peers:
            if peer.state is TrialState.COMPLETE and peer.value is not None and math.isfinite(peer.value):
                value = remembered(study, peer).warm_value_at(signal, samples)
                if value is not None and math.isfinite(value):
                    pairs.append((value, sign * peer.value))
        seen = rank_correlation(pairs)
        return (PRIOR_TRIALS * prior + len(pairs) * seen) / (PRIOR_TRIALS + len(pairs))

    def _weigh(self, past: History, standings: list[_Standing], learning: bool) -> Verdict:
        weight = sum(abs(s.correlation) for s in standings)
        if len(standings) < 2 or weight == 0:
            return proceed(self.rule, f"fewer than two signals with {self.min_peers} peers", past.samples_seen)
        score = sum(abs(s.correlation) * s.cautious for s in standings) / weight
        num_peers = min(s.num_peers for s in standings)
        agreeing = sum(s.badness > 0.5 for s in standings)
        good_objective = any(s.signal == OBJECTIVE and s.badness <= 0.5 for s in standings)
        details = {
            "signals": {s.signal: s.value for s in standings},
            "peers": {
                **{f"{s.signal}_badness": s.badness for s in standings},
                **{f"{s.signal}_correlation": s.correlation for s in standings},
                "num_peers": float(num_peers),
            },
            "threshold": self.threshold,
        }
        told = ", ".join(f"{s.signal} {s.value:.4g} (worse than {s.badness:.0%})" for s in standings)
        idle = "" if learning else "; its loss has not begun to fall, so loss and norm earn no credit"
        reason = f"badness {score:.2f} at {past.samples_seen} samples among {num_peers} peers: {told}{idle}"
        if score >= self.threshold and agreeing >= 2 and not good_objective:
            return prune(self.rule, reason, past.samples_seen, **details)
        return proceed(self.rule, reason, past.samples_seen, **details)
