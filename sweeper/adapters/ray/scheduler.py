"""Brings Tune's results before the judge and turns verdicts into Tune's decisions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeper.core.lifecycle import FailCause
from sweeper.core.measurement import Measurement
from sweeper.core.record import TrialInfo
from sweeper.judge import Judge


class JudgeScheduler(FIFOScheduler):
    """Tells the judge everything that happens to a trial, once, in order.

    Tune calls ``on_trial_result`` for every result but a trial's last one, and ``on_trial_complete`` both for a last
    result and after a stop.
    """

    def __init__(self, judge: Judge, trials: Mapping[str, TrialInfo], checkpoints: Path) -> None:
        """Keep what is needed; an ended trial's folder under ``checkpoints`` is deleted."""
        super().__init__()
        self._judge = judge
        self._trials = trials
        self._checkpoints = checkpoints
        self._judged: set[str] = set()

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        info = self._info(trial)
        if "failure" in result:
            return str(TrialScheduler.CONTINUE)
        verdict = self._judge.observe(info, Measurement.from_json(json.loads(result["measurement"])))
        if verdict.prunes:
            self._judged.add(info.fingerprint)
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        info = self._info(trial)
        shutil.rmtree(self._checkpoints / info.fingerprint, ignore_errors=True)
        if "failure" in result:
            failure = json.loads(result["failure"])
            self._judge.fail(info, FailCause(failure["cause"]), failure["detail"])
            return
        if info.fingerprint not in self._judged:
            self._judge.observe(info, Measurement.from_json(json.loads(result["measurement"])))
        self._judge.conclude(info)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        if trial.should_recover():
            return  # Tune reports an error that it is about to retry by the same call
        error = trial.get_pickled_error() or trial.get_error()
        info = self._info(trial)
        shutil.rmtree(self._checkpoints / info.fingerprint, ignore_errors=True)
        self._judge.fail(info, FailCause.CRASH, str(error))

    def debug_string(self) -> str:
        return "verdicts by the judge"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_judge": None, "_trials": None}

    def _info(self, trial: Trial) -> TrialInfo:
        return self._trials[trial.config["fingerprint"]]
