"""Brings Tune's results before the judge and turns verdicts into Tune's decisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ray import cloudpickle
from ray.tune.execution.tune_controller import TrialRunnerWrapper, TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeper.adapters.ray.admission import Admission
from sweeper.adapters.ray.faults import GangError, of_actor
from sweeper.adapters.ray.pausing import Pausing
from sweeper.adapters.ray.reins import Reins
from sweeper.adapters.ray.sentry import Sentry
from sweeper.adapters.ray.store import CheckpointStore
from sweeper.adapters.ray.waiting import Waiting
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import TrialInfo
from sweeper.judge import Judge

PENDING_WHERE_MIXED: Final = 16
"""Trials that may wait at Tune: one that finds no room for its gang must not keep others from theirs. Admission hands
out no more than there is room for."""


class JudgeScheduler(FIFOScheduler):
    """Tells the judge everything that happens to a trial, once, in order.

    Tune calls ``on_trial_result`` for every result but a trial's last one, and ``on_trial_complete`` both for a last
    result and after a stop.
    """

    def __init__(
        self,
        judge: Judge,
        trials: Mapping[str, TrialInfo],
        store: CheckpointStore,
        sentry: Sentry,
        reins: Reins,
        waiting: Waiting,
        admission: Admission,
        notice: Callable[[str], None],
        pausing: Pausing | None = None,
    ) -> None:
        """Keep what is needed; an ended trial's checkpoints are given to ``store``, pauses are up to ``pausing``."""
        super().__init__()
        self._judge = judge
        self._trials = trials
        self._store = store
        self._sentry = sentry
        self._reins = reins
        self._waiting = waiting
        self._admission = admission
        self._notice = notice
        self._pausing = pausing
        self._judged: set[str] = set()

    def choose_trial_to_run(self, tune_controller: TrialRunnerWrapper) -> Trial | None:
        """Look after all trials: Tune asks this in each round of its loop, about ten times a second."""
        controller = tune_controller._tune_controller
        self._sentry.look(controller._live_trials, controller._resetting_trials)
        self._reins.look(controller)
        self._waiting.look(controller._live_trials, self._admission.passed_over)
        if self._admission.is_mixed:
            controller.update_max_pending_trials(PENDING_WHERE_MIXED)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Tune says so again where it is to try a trial again."""
        if self._pausing is not None:
            self._pausing.bound(trial, self._info(trial))

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        info = self._info(trial)
        self._sentry.heard(trial, result)
        if self._reins.has_ended(trial):
            return str(TrialScheduler.STOP)
        for checkpoint in result.get("torn", []):
            self._notice(f"{info.name}: a checkpoint could not be read and was set aside: {checkpoint}")
        if "failure" in result:
            return str(TrialScheduler.CONTINUE)
        measurement = Measurement.from_json(json.loads(result["measurement"]))
        verdict = self._judge.observe(info, measurement)
        if verdict.prunes:
            self._judged.add(info.fingerprint)
            return str(TrialScheduler.STOP)
        if self._pausing is not None and self._pausing.pauses(
            trial, info, measurement, int(result["state_bytes"]), is_ending=self._reins.is_ending
        ):
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.STOP if self._reins.leaves(trial) else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        info = self._info(trial)
        if self._reins.has_ended(trial) or self._reins.has_left(trial):
            return
        if self._pausing is not None and self._pausing.has_paused(trial):
            return
        if "failure" in result:
            failure = json.loads(result["failure"])
            self._judge.fail(info, FailCause(failure["cause"]), failure["detail"])
            self._ended(info, TrialState.FAIL)
            return
        if info.fingerprint not in self._judged:
            self._judge.observe(info, Measurement.from_json(json.loads(result["measurement"])))
        self._ended(info, self._judge.conclude(info))
        self._judged.discard(info.fingerprint)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """A trial's gang or actor broke; Tune tells so both before it tries again and when it gives up."""
        # Tune leaves a trial whose actor died while it was handed over marked for ever, and then never starts it.
        tune_controller._resetting_trials.discard(trial)
        if self._reins.has_ended(trial):
            return
        info, error = self._info(trial), of_actor(_error_of(trial))
        if self._sentry.was_silent(trial):
            error = GangError(FailCause.HANG, "the trial's process said nothing for too long", True)
        if error.is_retried and trial.should_recover():
            self._notice(f"{info.name} is tried again: {error}")
            if self._pausing is not None:
                self._pausing.begins_again(info)
            return
        self._judge.fail(info, error.cause, error.detail)
        self._ended(info, TrialState.FAIL)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """A trial that was not running is taken out, by its user or at the end of this run; the study says which."""

    def debug_string(self) -> str:
        return "verdicts by the judge"

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_judge", "_trials", "_store", "_sentry", "_reins", "_waiting", "_admission", "_notice", "_pausing")
        return {**self.__dict__, **dict.fromkeys(dropped)}

    def _ended(self, info: TrialInfo, state: TrialState) -> None:
        self._store.ended(info.fingerprint, state)
        if self._pausing is not None:
            self._pausing.ended(info)

    def _info(self, trial: Trial) -> TrialInfo:
        return self._trials[trial.config["fingerprint"]]


def _error_of(trial: Trial) -> Exception | None:
    """Return what Tune wrote down last; its own getter looks where that is copied to only later."""
    if trial.pickled_error_file is None or not Path(trial.pickled_error_file).exists():
        return None
    error: Exception = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return error
