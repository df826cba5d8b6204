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
from sweeper.pruners.covariates import PAPER
from sweeper.pruners.finals import Finals, chance_of_no_rival, learn_finals, median_final
from sweeper.pruners.forecast import MIN_TRIALS, Forecast, beats_by_pace, beats_by_process, beats_by_stall, stands
from sweeper.pruners.history import OBJECTIVE, SEEN_STATES, History, remembered
from sweeper.pruners.own_record import Forecaster, precedent, trusted
from sweeper.pruners.path import Floats, Path, make_path
from sweeper.pruners.record import axes, is_calibration, planned_samples

SPENT_ATTR: Final = "calibrated:spent"
"""User attribute of a pruned trial: the probability that it would have been the best."""
FINAL_ATTR: Final = "final"
"""Study attribute: ``best`` where trials are ranked by their best value, ``last`` (the default) by their last."""
BUDGET_SHARES: Final = 2.0
"""A prune may spend at most this many equal shares of the budget left: most prunes spend far less than one."""
LOOK_GROWTH: Final = 1.1
"""A trial is looked at each time its samples have grown by a tenth: more looks cost time and tempt fate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sweep:
    """What the study knows, minimised."""

    own: Path
    peers: list[Path]
    standing: list[Path]
    """Peers that can still win: finished or running."""
    points: Floats
    going: list[int]
    """Rows of the other trials that have not ended."""
    silent: list[int]
    """Rows of the trials that were never started or have not reported."""
    broken: int
    """Trials that ended without one finite value."""
    spent: float


class CalibratedPruner(VerdictPruner):
    """Forecast each trial's final objective from the sweep's own trials and spend a budget of risk on prunes.

    Three forecasters (see ``sweeper.pruners.forecast``) estimate the probability that the trial ends better than the
    best one known by more than the tolerance, each believed as far as its own record in this sweep supports it
    (``sweeper.pruners.own_record``). The smallest estimate, times the probability that no other trial still to end
    does better yet (``sweeper.pruners.finals``), is what a prune would spend. The trial ends when that is within
    ``2 / trials left`` of what is left of ``risk``. Where early values do not foretell final ones the estimates stay
    high and little is pruned.

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
        self._finals: tuple[Floats, list[tuple[int, float]], Finals | None] = (np.zeros((0, 0)), [], None)

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
        left = max(self.risk - sweep.spent, 0.0)
        limit = left * min(1.0, BUDGET_SHARES / (len(sweep.going) + 1))
        finals = self._learned(sweep)
        unit, tie = self._scales(sweep, best, finals)
        rivals = 1.0 if finals is None else self._no_rival(sweep, finals, best - tie / 2)
        estimates, forecast = self._estimate(trial, sweep, best, best - tie, unit, limit / rivals)
        if not estimates:
            return proceed(self.rule, "too few trials to learn from", past.samples_seen, signals={OBJECTIVE: latest})
        name = min(estimates, key=lambda key: estimates[key])
        spends = estimates[name] * rivals
        chances = {f"chance_by_{key}": chance for key, chance in estimates.items()}
        peers = {"best": sign * best, "tie": tie, "spends": spends, "left": left, "no_better_rival": rivals, **chances}
        speak, relation = (prune, "within") if spends <= limit else (proceed, "above")
        reason = (
            f"chance of ending best, past {sign * (best - tie):.4g}, is {spends:.2g} by its {name} at "
            f"{past.samples_seen} samples, {relation} the {limit:.2g} it may spend: {left:.2g} of the sweep's risk of "
            f"{self.risk:g} is left"
        )
        return speak(
            self.rule,
            reason,
            past.samples_seen,
            signals={OBJECTIVE: latest},
            peers=peers,
            threshold=limit,
            predicted_final=_ordered(forecast, sign),
        )

    def _learned(self, sweep: _Sweep) -> Finals | None:
        """Return what the finished trials say of every cell; kept until another one finishes."""
        done = [(p.cell, p.final) for p in sweep.peers if p.final is not None]
        points, before, learned = self._finals
        if points is not sweep.points or before != done:
            learned = learn_finals(sweep.points, [cell for cell, _ in done], [final for _, final in done])
            self._finals = (sweep.points, done, learned)
        return learned

    def _no_rival(self, sweep: _Sweep, finals: Finals, target: float) -> float:
        beats = finals.below(target, sweep.going)
        return chance_of_no_rival(beats, sum(p.final is not None for p in sweep.peers))

    def _scales(self, sweep: _Sweep, best: float, finals: Finals | None) -> tuple[float, float]:
        """Return the distance from the best to the median settled trial, and how much counts as a tie.

        Only values that stand for final ones tell the first: early values lie far off. A tie is a share of the distance
        to the median of all cells, pruned, broken and waiting ones too: the settled ones are the best of them. A cell
        that has not ended counts by its configuration and never as worse than it stands.
        """
        settled = [p.value if p.final is None else p.final for p in sweep.peers if stands(p)]
        enough = len(settled) >= MIN_TRIALS
        values = settled if enough else [p.value for p in (*sweep.peers, sweep.own)]
        unit = max(float(np.median(values)) - best, 1e-12 * max(abs(best), 1.0))
        if finals is None:
            return unit, self.tolerance * unit if enough else 0.0
        ends = [
            p.final if p.final is not None else min(p.value, max(finals.middle(p.cell), best))
            for p in (*sweep.peers, sweep.own)
        ]
        ends += [max(finals.middle(row), best) for row in sweep.silent] + [math.inf] * sweep.broken
        middle = median_final(ends)
        return unit, self.tolerance * max(middle - best, 0.0) if math.isfinite(middle) else 0.0

    def _estimate(
        self, trial: FrozenTrial, sweep: _Sweep, best: float, target: float, unit: float, limit: float
    ) -> tuple[dict[str, float], Forecast | None]:
        """Return what each forecaster claims, the dear one only where needed, and the forecast of the final value."""
        planned = planned_samples(trial)
        end = None if planned is None else float(planned)
        processes: list[Forecast | None] = []

        def by_process(own: Path, peers: Sequence[Path], goal: float) -> float | None:
            known = min((p.final for p in peers if p.final is not None), default=best)
            forecast = beats_by_process(own, peers, sweep.points, best=best if own is sweep.own else known, unit=unit)
            processes.append(forecast)
            return None if forecast is None else forecast.below(goal)

        forecasters: dict[str, Forecaster] = {
            "stall": lambda own, peers, goal: beats_by_stall(own, peers, goal, unit),
            "pace": lambda own, peers, goal: beats_by_pace(own, peers, goal, unit, end),
            "process": by_process,
        }
        estimates: dict[str, float] = {}
        least = precedent(sweep.own, sweep.peers, target, unit)
        for name, forecaster in forecasters.items():
            # The process costs ten times as much as the other two: it is asked where they do not settle the matter.
            if name == "process" and estimates and min(estimates.values()) <= limit:
                break
            chance = forecaster(sweep.own, sweep.peers, target)
            if chance is not None:
                fair = trusted(chance, forecaster, sweep.own, sweep.peers) if chance <= limit else chance
                estimates[name] = max(fair, least)
        return estimates, processes[0] if processes else None

    def _read(self, study: optuna.Study, trial: FrozenTrial) -> _Sweep | None:
        best_counts = study._storage.get_study_user_attrs(study._study_id).get(FINAL_ATTR) == "best"
        sign = 1.0 if minimizes(study) else -1.0
        everyone = study.get_trials(deepcopy=False, states=(*SEEN_STATES, TrialState.WAITING))
        cells = self._embedded(everyone)
        own: Path | None = None
        peers, standing, going, silent, broken, spent = [], [], [], [], 0, 0.0
        for row, each in enumerate(everyone):
            path = None if each.state is TrialState.WAITING else self._path(study, each, row, sign, best_counts)
            if each.number == trial.number:
                own = path
                continue
            unfinished = each.state in (TrialState.WAITING, TrialState.RUNNING)
            spent += float(each.user_attrs.get(SPENT_ATTR, 0.0))
            if unfinished:
                going.append(row)
            if path is not None:
                peers.append(path)
                if path.final is not None or (best_counts and each.state is TrialState.RUNNING):
                    standing.append(path)
            elif unfinished:
                silent.append(row)
            else:
                broken += 1
        if own is None:
            return None
        return _Sweep(
            own=own,
            peers=peers,
            standing=standing,
            points=cells,
            going=going,
            silent=silent,
            broken=broken,
            spent=spent,
        )

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
        signals = {name: (past.curve(name).samples, past.curve(name).values) for name in PAPER if past.curve(name)}
        path = make_path(curve.samples, values, final=final, cell=row, best_counts=best_counts, signals=signals)
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
