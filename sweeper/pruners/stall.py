"""A trial that has stopped getting better."""

from __future__ import annotations

import math

import optuna
from optuna.trial import FrozenTrial

from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.pruners.base import VerdictPruner, minimizes, require
from sweeper.pruners.history import OBJECTIVE, Curve, peers_of, remembered
from sweeper.pruners.record import is_calibration, planned_samples


class StallPruner(VerdictPruner):
    """End a trial whose best objective has not improved by the share ``gain`` over the share ``over`` of its samples.

    The window is a share of the samples it is planned for, or of those it has seen where the study does not say, and
    begins after its warmup. Never ended: a calibration trial, and one whose best is the best known of all trials, for
    it may well be the winner. Non-finite values are passed over; the guards end such trials.
    """

    rule = "stall"

    def __init__(self, *, gain: float = 0.01, over: float = 0.3) -> None:
        """Check and keep the settings.

        Args:
            gain: least improvement, as a share of the best value before the window, at least 0.
            over: length of the window, above 0 and below 1.
        """
        require("gain", gain, lambda: 0 <= gain < math.inf, "must be finite and at least 0")
        require("over", over, lambda: 0 < over < 1, "must be above 0 and below 1")
        self.gain, self.over = gain, over

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial at its latest report."""
        past = remembered(study, trial)
        sign = 1.0 if minimizes(study) else -1.0
        curve = past.curve(OBJECTIVE)
        if past.latest(OBJECTIVE) is None or is_calibration(trial):
            return proceed(self.rule, "not judged at this milestone", past.samples_seen)
        begins = past.samples_seen - self.over * (planned_samples(trial) or past.samples_seen)
        before, best = _best(curve, sign, past.warmup_end, begins), _best(curve, sign, 0, past.samples_seen)
        if before is None or best is None:
            return proceed(self.rule, "too early to speak of a stall", past.samples_seen)
        needed = before - self.gain * abs(before)
        told = f"best objective {sign * best:.4g} after {sign * before:.4g} at {begins:,.0f} samples"
        details = {"signals": {OBJECTIVE: sign * best}, "peers": {"best_before": sign * before}}
        if best <= needed:
            return proceed(self.rule, f"still gains: {told}", past.samples_seen, threshold=sign * needed, **details)
        others = (_best(remembered(study, peer).curve(OBJECTIVE), sign, 0, math.inf) for peer in peers_of(study, trial))
        if not any(other is not None and other < best for other in others):
            return proceed(self.rule, f"the best known of all: {told}", past.samples_seen, **details)
        reason = f"gained less than {self.gain:.1%} over {self.over:.0%} of its samples: {told}"
        return prune(self.rule, reason, past.samples_seen, threshold=sign * needed, **details)


def _best(curve: Curve, sign: float, begins: float, ends: float) -> float | None:
    """Return the best finite value between two sample counts, minimised; None where there is none."""
    points = zip(curve.samples, curve.values, strict=True)
    return min((sign * v for s, v in points if begins <= s <= ends and math.isfinite(v)), default=None)
