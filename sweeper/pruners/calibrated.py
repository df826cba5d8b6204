"""The calibrated pruner: ends a trial when the sweep can afford the risk of having been wrong about it.

One dial, ``risk``: the probability that the sweep loses its best configuration, or a tie with it, to all prunes
together. Every prune spends the probability that its trial would have been the best; what is spent is gone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper.core.order import embed
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.pruners.base import VerdictPruner, minimizes, require
from sweeper.pruners.forecast import MIN_TRIALS, Forecast, beats_by_pace, beats_by_process, beats_by_stall, stands
from sweeper.pruners.history import OBJECTIVE, SEEN_STATES, History, remembered
from sweeper.pruners.path import Floats, Path, make_path
from sweeper.pruners.record import axes, is_calibration, planned_samples

SPENT_ATTR: Final = "calibrated:spent"
"""User attribute of a pruned trial: the probability that it would have been the best."""
FINAL_ATTR: Final = "final"
"""Study attribute: ``best`` where trials are ranked by their best value, ``last`` (the default) by their last."""
BUDGET_SHARES: Final = 2.0
"""A prune may spend at most this many equal shares of the budget left: most prunes spend far less than one."""
LOOK_GROWTH: Final = 1.05
"""A trial is looked at each time its samples have grown by a twentieth: more looks cost time and tempt fate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sweep:
    """What the study knows, minimised."""

    own: Path
    peers: list[Path]
    standing: list[Path]
    """Peers that can still win: finished or running."""
    points: Floats
    waiting: int
    """Trials that have not ended, this one included."""
    spent: float


class CalibratedPruner(VerdictPruner):
    """Forecast each trial's final objective from the sweep's own trials and spend a budget of risk on prunes.

    Three forecasters (see ``sweeper.pruners.forecast``) estimate the probability that the trial ends better than the
    best one known by more than the tolerance. The smallest estimate is what a prune would spend. The trial ends when
    that is within ``2 / trials left`` of what is left of ``risk``. Where early values do not foretell
    final ones the estimates stay high and little is pruned.

    The best known trial is never ended, nor a calibration trial. NaN policy: a trial whose latest objective is not
    finite is not judged (the guards end it); non-finite points of peers are left out.
    """

    rule = "calibrated"

    def __init__(self, *, risk: float = 0.02, tolerance: float = 0.05) -> None:
        """Check and keep the settings.

        Args:
            risk: probability of losing the best configuration of the whole sweep, above 0 and below 1.
            tolerance: what counts as a tie with the best: share of the distance from the best to the median trial.
        """
        require("risk", risk, lambda: 0 < risk < 1, "must be above 0 and below 1")
        require("tolerance", tolerance, lambda: 0 <= tolerance < 1, "must be in [0, 1)")
        self.risk, self.tolerance = risk, tolerance
        self._paths: dict[int, tuple[History, Any, Path | None]] = {}
        self._points: tuple[tuple[int, ...], Floats] = ((), np.zeros((0, 0)))

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial at its latest report; a prune is entered on the trial as what it spends."""
        past = remembered(study, trial)
        latest = past.latest(OBJECTIVE)
        if latest is None or not math.isfinite(latest):
            return proceed(self.rule, "no finite objective at this milestone", past.samples_seen)
        if is_calibration(trial):
            return proceed(self.rule, "a calibration trial runs to its end", past.samples_seen)
        if not _is_look(past.curve(OBJECTIVE).samples):
            return proceed(self.rule, "too soon after the last look", past.samples_seen)
        sweep = self._read(study, trial)
        if sweep is None or not sweep.standing:
            return proceed(self.rule, "nothing to compare with yet", past.samples_seen)
        verdict = self._judge(study, trial, past, sweep, latest)
        if verdict.prunes and trial.state is TrialState.RUNNING:
            study._storage.set_trial_user_attr(trial._trial_id, SPENT_ATTR, verdict.peers["spends"])
        return verdict

    def _judge(self, study: optuna.Study, trial: FrozenTrial, past: History, sweep: _Sweep, latest: float) -> Verdict:
        best = min(p.value if p.final is None else p.final for p in sweep.standing)
        sign = 1.0 if minimizes(study) else -1.0
        if sweep.own.value <= best:
            return proceed(self.rule, "the best so far", past.samples_seen, signals={OBJECTIVE: latest})
        unit, tie = self._scales(sweep, best)
        target = best - tie
        limit = (self.risk - sweep.spent) * min(1.0, BUDGET_SHARES / sweep.waiting)
        estimates, forecast = self._estimate(trial, sweep, best, target, unit, limit)
        if not estimates:
            return proceed(self.rule, "too few trials to learn from", past.samples_seen, signals={OBJECTIVE: latest})
        name = min(estimates, key=lambda key: estimates[key])
        spends = estimates[name]
        details: dict[str, Any] = {
            "signals": {OBJECTIVE: latest},
            "peers": {"best": sign * best, "spends": spends, **{f"chance_by_{k}": v for k, v in estimates.items()}},
            "threshold": limit,
            "predicted_final": _ordered(forecast, sign),
        }
        speak, relation = (prune, "within") if spends <= limit else (proceed, "above")
        reason = (
            f"chance of ending better than {sign * target:.4g} is at most {spends:.2g} by {name} at "
            f"{past.samples_seen} samples, {relation} the {limit:.2g} that the sweep's risk allows"
        )
        return speak(self.rule, reason, past.samples_seen, **details)

    def _scales(self, sweep: _Sweep, best: float) -> tuple[float, float]:
        """Return the distance from the best to the median trial, and how much of it counts as a tie.

        Only values that stand for final ones tell what a tie is: early values lie far off, and a share of their
        distance would call a target a tie that no trial can reach.
        """
        settled = [p.value if p.final is None else p.final for p in sweep.peers if stands(p)]
        enough = len(settled) >= MIN_TRIALS
        values = settled if enough else [p.value for p in (*sweep.peers, sweep.own)]
        unit = max(float(np.median(values)) - best, 1e-12 * max(abs(best), 1.0))
        return unit, self.tolerance * unit if enough else 0.0

    def _estimate(
        self, trial: FrozenTrial, sweep: _Sweep, best: float, target: float, unit: float, limit: float
    ) -> tuple[dict[str, float], Forecast | None]:
        planned = planned_samples(trial)
        found = {
            "stall": beats_by_stall(sweep.own, sweep.peers, target, unit),
            "pace": beats_by_pace(sweep.own, sweep.peers, target, unit, None if planned is None else float(planned)),
        }
        estimates = {name: chance for name, chance in found.items() if chance is not None}
        # The process costs ten times as much as the other two: it is asked where they do not settle the matter.
        if estimates and min(estimates.values()) <= limit:
            return estimates, None
        forecast = beats_by_process(sweep.own, sweep.peers, sweep.points, best=best, unit=unit)
        if forecast is not None:
            estimates["process"] = forecast.below(target)
        return estimates, forecast

    def _read(self, study: optuna.Study, trial: FrozenTrial) -> _Sweep | None:
        best_counts = study._storage.get_study_user_attrs(study._study_id).get(FINAL_ATTR) == "best"
        sign = 1.0 if minimizes(study) else -1.0
        everyone = study.get_trials(deepcopy=False, states=(*SEEN_STATES, TrialState.WAITING))
        cells = self._embedded(everyone)
        own: Path | None = None
        peers, standing, waiting, spent = [], [], 0, 0.0
        for row, each in enumerate(everyone):
            waiting += each.state in (TrialState.WAITING, TrialState.RUNNING)
            if each.state is TrialState.WAITING:
                continue
            path = self._path(study, each, row, sign, best_counts)
            if each.number == trial.number:
                own = path
                continue
            spent += float(each.user_attrs.get(SPENT_ATTR, 0.0))
            if path is not None:
                peers.append(path)
                if path.final is not None or (best_counts and each.state is TrialState.RUNNING):
                    standing.append(path)
        if own is None:
            return None
        return _Sweep(own=own, peers=peers, standing=standing, points=cells, waiting=max(waiting, 1), spent=spent)

    def _embedded(self, trials: Sequence[FrozenTrial]) -> Floats:
        numbers = tuple(each.number for each in trials)
        if self._points[0] != numbers:
            self._points = (numbers, embed([axes(each) for each in trials]))
        return self._points[1]

    def _path(self, study: optuna.Study, trial: FrozenTrial, row: int, sign: float, best_counts: bool) -> Path | None:
        past = remembered(study, trial)
        key = (trial.state, row, sign, best_counts)
        found = self._paths.get(trial._trial_id)
        if found is not None and found[0] is past and found[1] == key:
            return found[2]
        curve = past.curve(OBJECTIVE)
        value = trial.value if trial.state is TrialState.COMPLETE else None
        final = sign * value if value is not None and math.isfinite(value) else None
        values = [sign * v for v in curve.values]
        path = make_path(curve.samples, values, final=final, cell=row, best_counts=best_counts)
        self._paths[trial._trial_id] = (past, key, path)
        return path


def _is_look(samples: Sequence[int]) -> bool:
    """Return whether a power of ``LOOK_GROWTH`` lies between the latest two reports; the first one is a look."""
    if len(samples) < 2 or samples[-2] < 1:
        return True
    before, now = (math.floor(math.log(each) / math.log(LOOK_GROWTH)) for each in samples[-2:])
    return now > before


def _ordered(forecast: Forecast | None, sign: float) -> tuple[float, ...] | None:
    return None if forecast is None else tuple(sorted(sign * value for value in forecast.quantiles()))
