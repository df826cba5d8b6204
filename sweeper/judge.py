"""The judge: takes each measurement of a trial, keeps it, and says whether the trial goes on.

The same numbers are kept, judged and shown. Every step is safe to repeat, so a trial that is run again after a crash
meets its old measurements and its old verdicts and adds nothing twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper.core.hold_back import HoldBack, condemned_by, contradiction
from sweeper.core.lifecycle import FailCause, TrialState, with_cause
from sweeper.core.measurement import Measurement
from sweeper.core.objective import Objective
from sweeper.core.record import TrialInfo
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.ports import Clock, Ledger, Tracker


class Judge:
    """Decides on running trials. One per sweep; not thread-safe."""

    def __init__(
        self,
        objective: Objective,
        ledger: Ledger,
        trackers: Sequence[Tracker],
        clock: Clock,
        hold_back: HoldBack | None = None,
    ) -> None:
        self._objective = objective
        self._hold_back = hold_back
        self._ledger = ledger
        self._trackers = trackers
        self._clock = clock
        self._latest: dict[str, tuple[Measurement, Verdict]] = {}

    def admits(self, trial: TrialInfo) -> bool:
        """Return whether this waiting cell is to be started; one that is not is ended here, never having run."""
        verdict = self._ledger.verdict_at(trial.fingerprint, 0)
        if verdict is None:
            verdict = self._ledger.skip(trial.fingerprint)
            if verdict is None:
                return True
            if self._hold_back is not None:
                verdict = self._hold_back.apply(trial.fingerprint, verdict)
            self._ledger.keep_verdict(trial.fingerprint, 0, verdict)
        if verdict.prunes:
            self._pass_over(trial, verdict)
        return not verdict.prunes

    def dismiss(self, trial: TrialInfo, verdict: Verdict) -> None:
        """End a waiting cell that is not to be started, by a verdict that is no pruner's: it is never held back."""
        self._ledger.keep_verdict(trial.fingerprint, 0, verdict)
        self._pass_over(trial, verdict)

    def _pass_over(self, trial: TrialInfo, verdict: Verdict) -> None:
        for tracker in self._trackers:
            tracker.close_trial(trial, TrialState.PRUNED, verdict, {})
        self._ledger.finish(trial.fingerprint, TrialState.PRUNED)

    def begin(self, trial: TrialInfo) -> None:
        """A gang starts this trial now, for the first time, again, or where it was paused."""
        self._ledger.start(trial.fingerprint)
        for tracker in self._trackers:
            tracker.open_trial(trial)

    def recall(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict) -> None:
        """Take in where a trial stands that was paused by an earlier process."""
        self._latest[trial.fingerprint] = measurement, verdict

    def pause(self, trial: TrialInfo, *, asked_after: int) -> None:
        """The trial's gang goes to another; ``asked_after`` as the ledger's ``pause`` has it."""
        self._ledger.pause(trial.fingerprint, asked_after)
        for tracker in self._trackers:
            tracker.pause_trial(trial)

    def observe(self, trial: TrialInfo, measurement: Measurement) -> Verdict:
        """Keep a measurement and return what becomes of the trial."""
        self._ledger.record(trial.fingerprint, measurement)
        verdict = self._ledger.verdict_at(trial.fingerprint, measurement.milestone)
        if verdict is None:
            verdict = self._decide(trial, measurement)
            self._ledger.keep_verdict(trial.fingerprint, measurement.milestone, verdict)
        self._latest[trial.fingerprint] = measurement, verdict
        wall_time_ms = self._clock.now_ms()
        for tracker in self._trackers:
            tracker.measured(trial, measurement, verdict, wall_time_ms)
        return verdict

    def reconsider(self, trial: TrialInfo) -> Verdict:
        """Ask once more about a trial that is paused at its latest measurement, and return what becomes of it.

        A prune is kept, and the trial can then be concluded; where nothing speaks against the trial, nothing changes.
        """
        measurement, before = self._latest[trial.fingerprint]
        verdict = self._ledger.advise(trial.fingerprint, again=True)
        if self._hold_back is not None:
            verdict = self._hold_back.apply(trial.fingerprint, verdict)
        if not verdict.prunes and (condemned_by(verdict) is None or condemned_by(before) is not None):
            return before
        self._ledger.keep_verdict(trial.fingerprint, measurement.milestone, verdict, again=True)
        self._latest[trial.fingerprint] = measurement, verdict
        return verdict

    def conclude(self, trial: TrialInfo) -> TrialState:
        """End a trial whose last verdict pruned it or whose training is over; return its final state."""
        measurement, verdict = self._latest.pop(trial.fingerprint)
        state = TrialState.PRUNED if verdict.prunes else TrialState.COMPLETE
        objective = measurement.signal(self._objective.metric)
        if state is TrialState.COMPLETE and objective is not None:
            self._check_rule(trial, measurement, objective)
        final = {**measurement.scores, "train_loss": measurement.train_loss}
        # Trackers first: a trial that the ledger calls ended is never run again, so nobody would close it there.
        for tracker in self._trackers:
            tracker.close_trial(trial, state, verdict, final)
        self._ledger.finish(trial.fingerprint, state, objective=objective)
        return state

    def fail(self, trial: TrialInfo, cause: FailCause, detail: str) -> None:
        """End a trial that could not be run to a verdict; cause and trace (``detail``) are kept with it."""
        self._latest.pop(trial.fingerprint, None)
        detail = with_cause(cause, detail)
        for tracker in self._trackers:
            tracker.close_trial(trial, TrialState.FAIL, None, {}, detail)
        self._ledger.finish(trial.fingerprint, TrialState.FAIL, cause=cause, detail=detail)

    def _decide(self, trial: TrialInfo, measurement: Measurement) -> Verdict:
        if not measurement.is_last:
            verdict = self._ledger.advise(trial.fingerprint)
            return verdict if self._hold_back is None else self._hold_back.apply(trial.fingerprint, verdict)
        objective = measurement.signal(self._objective.metric)
        judged = (objective, measurement.train_loss, measurement.grad_norm)
        if all(value is not None and math.isfinite(value) for value in judged):
            return proceed("end", "ran to its end", measurement.samples_seen)
        # An end without finite numbers is no result; where the guards are off, it still is none.
        verdict = self._ledger.advise(trial.fingerprint)
        if verdict.prunes or (objective is not None and math.isfinite(objective)):
            return verdict
        reason = f"{self._objective.metric} is {objective} at the end of training: there is nothing to rank"
        return prune("no_objective", reason, measurement.samples_seen)

    def _check_rule(self, trial: TrialInfo, measurement: Measurement, objective: float) -> None:
        """Suspend the rule that would have ended this trial where the trial's end contradicts it.

        Before the trial is ended in the ledger: a crash between the two repeats both.
        """
        if self._hold_back is None or not self._hold_back.chooses(trial.fingerprint):
            return
        given = (self._ledger.verdict_at(trial.fingerprint, place) for place in range(measurement.milestone + 1))
        rule = next((rule for rule in map(condemned_by, given) if rule is not None), None)
        if rule is not None:
            others = [value for key, value in self._ledger.finals().items() if key != trial.fingerprint]
            reason = contradiction(trial.name, objective, others, maximize=self._objective.maximizes)
            if reason is not None:
                self._ledger.suspend(rule, reason)
