"""The calibrated pruner: ends a trial when the sweep can afford the risk of having been wrong about it.

One dial, ``risk``: the probability that the sweep loses its best configuration, or a tie with it, to all prunes
together. Every prune spends the probability that its trial would have been the best; what is spent is gone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper.core.errors import InputError
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.pruners.base import VerdictPruner, minimizes, require
from sweeper.pruners.finals import Finals, chance_of_no_rival, learn_finals, median_final, worst_miss
from sweeper.pruners.forecast import MIN_TRIALS, beats_by_pace, beats_by_stall
from sweeper.pruners.history import OBJECTIVE, History, remembered
from sweeper.pruners.own_record import Forecaster, has_seen_the_like, precedent, tempered, trusted
from sweeper.pruners.path import Floats, Path, stands
from sweeper.pruners.process import MIN_FINISHED, Forecast, beats_by_process
from sweeper.pruners.record import is_calibration, planned_samples
from sweeper.pruners.sweep_state import SPENT_ATTR, SweepReader, SweepState

BUDGET_SHARES: Final = 2.0
"""A prune may spend at most this many equal shares of the budget left: most prunes spend far less than one."""
SKIP_RULE: Final = "skip_hopeless"
"""The rule in the verdict of a cell that was never started."""
LOOK_GROWTH: Final = 1.1
"""A trial is looked at each time its samples have grown by a tenth: more looks cost time and tempt fate."""


class CalibratedPruner(VerdictPruner):
    """Forecast each trial's final objective from the sweep's own trials and spend a budget of risk on prunes.

    Three forecasters (see ``sweeper.pruners.forecast``) estimate the probability that the trial ends better than the
    best one known by more than the tolerance, each believed as far as its own record in this sweep supports it
    (``sweeper.pruners.own_record``). The smallest estimate, times the probability that no other trial still to end
    does better yet (``sweeper.pruners.finals``), is what a prune would spend. The trial ends when that is within
    ``2 / trials left`` of what is left of ``risk``. Where early values do not foretell final ones the estimates stay
    high and little is pruned.

    With ``skip_hopeless`` a waiting cell is held to the same, by its configuration alone, before it is started.

    Where fewer than three calibration trials are drawn, as in mode ``promote``, nothing is ended before two trials that
    stood no better at the same age, or in the worse half, have run to their end.

    The best known trial is never ended, nor a calibration trial. NaN policy: a trial whose latest objective is not
    finite is not judged (the guards end it); non-finite points of peers are left out.
    """

    rule = "calibrated"

    def __init__(self, *, risk: float = 0.02, tolerance: float = 0.05, skip_hopeless: bool = False) -> None:
        """Check and keep the settings.

        Args:
            risk: probability of losing the best configuration of the whole sweep, above 0 and below 1.
            tolerance: what counts as a tie with the best: share of the distance from the best to the median trial.
            skip_hopeless: never start a cell whose configuration alone leaves it too small a chance.
        """
        require("risk", risk, lambda: 0 < risk < 1, "must be above 0 and below 1")
        require("tolerance", tolerance, lambda: 0 <= tolerance < 1, "must be in [0, 1)")
        if not isinstance(skip_hopeless, bool):
            raise InputError("must be true or false", where="skip_hopeless", got=skip_hopeless)
        self.risk, self.tolerance, self.skip_hopeless = risk, tolerance, skip_hopeless
        self._reader = SweepReader()
        self._finals: tuple[Floats, list[tuple[int, float]], Finals | None] = (np.zeros((0, 0)), [], None)

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial at its latest report; a prune is entered on the trial as what it spends."""
        return self._consider(study, trial, again=False)

    def reconsider(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial at its latest report, however soon after the last look: the other trials have gone on."""
        return self._consider(study, trial, again=True)

    def _consider(self, study: optuna.Study, trial: FrozenTrial, *, again: bool) -> Verdict:
        past = remembered(study, trial)
        latest = past.latest(OBJECTIVE)
        if latest is None or not math.isfinite(latest):
            return proceed(self.rule, "no finite objective at this milestone", past.samples_seen)
        if is_calibration(trial):
            return proceed(self.rule, "a calibration trial runs to its end", past.samples_seen)
        if not again and not _is_look(past.curve(OBJECTIVE).samples):
            return proceed(self.rule, "too soon after the last look", past.samples_seen)
        sweep = self._reader.read(study, trial)
        if sweep.own is None or not sweep.standing:
            return proceed(self.rule, "nothing to compare with yet", past.samples_seen)
        verdict = self._judge(study, trial, past, sweep, sweep.own, latest)
        if verdict.prunes and trial.state is TrialState.RUNNING:
            study._storage.set_trial_user_attr(trial._trial_id, SPENT_ATTR, verdict.peers["spends"])
        return verdict

    def skip(self, study: optuna.Study, trial: FrozenTrial) -> Verdict | None:
        """Return the verdict by which this waiting trial is never started, or None where it is to run."""
        if not self.skip_hopeless or is_calibration(trial):
            return None
        sweep = self._reader.read(study, trial)
        finals = self._learned(sweep)
        done = [(p.cell, p.final) for p in sweep.peers if p.final is not None]
        if finals is None or len(done) < MIN_FINISHED:
            return None
        sign = 1.0 if minimizes(study) else -1.0
        best, left, limit = _best(sweep), self._left(sweep), self._limit(sweep)
        tie = self._scales(sweep, best, finals)[1]
        rivals = self._no_rival(sweep, finals, best - tie / 2)
        chance = float(finals.below(best - tie, [sweep.row])[0])
        if chance * rivals <= limit:
            worst = worst_miss(sweep.points, [cell for cell, _ in done], [final for _, final in done])
            chance = tempered(chance, worst, len(done))
        spends = chance * rivals
        if spends > limit:
            return None
        reason = (
            f"never started: chance of ending best, past {sign * (best - tie):.4g}, is {spends:.2g} by its "
            f"configuration, within the {limit:.2g} it may spend: {left:.2g} of the sweep's risk of {self.risk:g} is "
            "left"
        )
        peers = {"best": sign * best, "tie": tie, "spends": spends, "left": left, "no_better_rival": rivals}
        if trial.state is TrialState.WAITING:
            study._storage.set_trial_user_attr(trial._trial_id, SPENT_ATTR, spends)
        forecast = _ordered(finals.forecast(sweep.row), sign)
        return prune(SKIP_RULE, reason, 0, peers=peers, threshold=limit, predicted_final=forecast)

    def _judge(
        self, study: optuna.Study, trial: FrozenTrial, past: History, sweep: SweepState, own: Path, latest: float
    ) -> Verdict:
        best, sign = _best(sweep), 1.0 if minimizes(study) else -1.0
        if own.value <= best:
            return proceed(self.rule, "the best so far", past.samples_seen, signals={OBJECTIVE: latest})
        if sweep.num_calibration < MIN_TRIALS and not has_seen_the_like(own, sweep.peers):
            reason = "too few trials that stood no better here have run to their end"
            return proceed(self.rule, reason, past.samples_seen, signals={OBJECTIVE: latest})
        left, limit = self._left(sweep), self._limit(sweep)
        finals = self._learned(sweep)
        unit, tie = self._scales(sweep, best, finals)
        rivals = 1.0 if finals is None else self._no_rival(sweep, finals, best - tie / 2)
        estimates, forecast = self._estimate(trial, sweep, own, best, best - tie, unit, limit / rivals)
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

    def _left(self, sweep: SweepState) -> float:
        return max(self.risk - sweep.spent, 0.0)

    def _limit(self, sweep: SweepState) -> float:
        """Return what one prune may spend."""
        return self._left(sweep) * min(1.0, BUDGET_SHARES / (len(sweep.going) + 1))

    def _learned(self, sweep: SweepState) -> Finals | None:
        """Return what the finished trials say of every cell; kept until another one finishes."""
        done = [(p.cell, p.final) for p in sweep.peers if p.final is not None]
        points, before, learned = self._finals
        if points is not sweep.points or before != done:
            learned = learn_finals(sweep.points, [cell for cell, _ in done], [final for _, final in done])
            self._finals = (sweep.points, done, learned)
        return learned

    def _no_rival(self, sweep: SweepState, finals: Finals, target: float) -> float:
        beats = finals.below(target, sweep.going)
        return chance_of_no_rival(beats, sum(p.final is not None for p in sweep.peers))

    def _scales(self, sweep: SweepState, best: float, finals: Finals | None) -> tuple[float, float]:
        """Return the distance from the best to the median settled trial, and how much counts as a tie.

        Only values that stand for final ones tell the first: early values lie far off. A tie is a share of the distance
        to the median of all cells, pruned, broken and waiting ones too: the settled ones are the best of them. A cell
        that has not ended counts by its configuration and never as worse than it stands.
        """
        settled = [p.value if p.final is None else p.final for p in sweep.peers if stands(p)]
        enough = len(settled) >= MIN_TRIALS
        seen = sweep.peers if sweep.own is None else [*sweep.peers, sweep.own]
        values = settled if enough else [p.value for p in seen]
        unit = max(float(np.median(values)) - best, 1e-12 * max(abs(best), 1.0))
        if finals is None:
            return unit, self.tolerance * unit if enough else 0.0
        middles = np.maximum(finals.middles(), best).tolist()
        ends = [p.final if p.final is not None else min(p.value, middles[p.cell]) for p in seen]
        ends += [middles[row] for row in sweep.silent] + [math.inf] * sweep.broken
        middle = median_final(ends)
        return unit, self.tolerance * max(middle - best, 0.0) if math.isfinite(middle) else 0.0

    def _estimate(
        self, trial: FrozenTrial, sweep: SweepState, own: Path, best: float, target: float, unit: float, limit: float
    ) -> tuple[dict[str, float], Forecast | None]:
        """Return what each forecaster claims, the dear one only where needed, and the forecast of the final value."""
        planned = planned_samples(trial)
        end = None if planned is None else float(planned)
        processes: list[Forecast | None] = []

        def by_process(path: Path, peers: Sequence[Path], goal: float) -> float | None:
            known = min((p.final for p in peers if p.final is not None), default=best)
            forecast = beats_by_process(path, peers, sweep.points, best=best if path is own else known, unit=unit)
            processes.append(forecast)
            return None if forecast is None else forecast.below(goal)

        forecasters: dict[str, Forecaster] = {
            "stall": lambda path, peers, goal: beats_by_stall(path, peers, goal, unit),
            "pace": lambda path, peers, goal: beats_by_pace(path, peers, goal, unit, end),
            "process": by_process,
        }
        estimates: dict[str, float] = {}
        least = precedent(own, sweep.peers, target, unit)
        for name, forecaster in forecasters.items():
            # The process costs ten times as much as the other two: it is asked where they do not settle the matter.
            if name == "process" and estimates and min(estimates.values()) <= limit:
                break
            chance = forecaster(own, sweep.peers, target)
            if chance is not None:
                fair = trusted(chance, forecaster, own, sweep.peers) if chance <= limit else chance
                estimates[name] = max(fair, least)
        return estimates, processes[0] if processes else None


def _best(sweep: SweepState) -> float:
    return min(p.value if p.final is None else p.final for p in sweep.standing)


def _is_look(samples: Sequence[int]) -> bool:
    """Return whether a power of ``LOOK_GROWTH`` lies between the latest two reports; the first one is a look."""
    if len(samples) < 2 or samples[-2] < 1:
        return True
    before, now = (math.floor(math.log(each) / math.log(LOOK_GROWTH)) for each in samples[-2:])
    return now > before


def _ordered(forecast: Forecast | None, sign: float) -> tuple[float, ...] | None:
    return None if forecast is None else tuple(sorted(sign * value for value in forecast.quantiles()))
