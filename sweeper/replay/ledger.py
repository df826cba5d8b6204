"""The study of a replayed sweep: in memory, told what was recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import optuna
from optuna.pruners import BasePruner
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from sweeper.adapters.study import StudyLedger
from sweeper.core.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from sweeper.core.derive import Derived
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.objective import Objective
from sweeper.core.record import TrialInfo
from sweeper.core.space import Cell
from sweeper.core.verdict import Verdict
from sweeper.pruners.record import milestone_key
from sweeper.pruners.sweep_state import FINAL_ATTR
from sweeper.replay.curves import Grid, Point

OBJECTIVE: Final = "objective"
_NO_CONFIG: Final = TrialConfig(
    model=ModelConfig(path="recorded"),
    data=DataConfig(train=("recorded",)),
    train=TrainConfig(batch_size=1, learning_rate=1.0),
)
"""Recorded curves come without a config of ours; the judge and the pruners look at axes and measurements only."""
NO_NUMBERS: Final = Derived(train_samples=1, planned_samples=1, total_steps=1, warmup_steps=0, warmup_origin="default")


class _SharedTrial(FrozenTrial):
    """A trial that is replaced, never changed, and so need not be copied.

    Optuna's Wilcoxon pruner copies the best trial at each report: 39 of the 54 s of one replay of 55 trials.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> _SharedTrial:
        return self


class _ReplayStorage(InMemoryStorage):
    """Optuna's storage in memory, with one write for a whole report: its own two took a quarter of a replay."""

    def add_report(self, trial_id: int, samples: int, objective: float | None, key: str, entry: dict[str, Any]) -> None:
        """Put a report on a running trial; trials handed out before stay as they were, as Optuna promises."""
        before = self._get_trial(trial_id)
        after = object.__new__(_SharedTrial)
        after.__dict__.update(before.__dict__)
        after.user_attrs = {**before.user_attrs, key: entry}
        if objective is not None:
            after.intermediate_values = {**before.intermediate_values, samples: objective}
        self._set_trial(trial_id, after)


class ReplayLedger(StudyLedger):
    """A sweep's ledger over recorded trials.

    Differs from a live one in three ways: signals that were never logged are not recorded, a trial's final value is
    the recorded one, and verdicts are kept beside the study instead of on it.
    """

    def __init__(self, grid: Grid, pruner: BasePruner, calibration: frozenset[int]) -> None:
        """Enter every trial of the grid as WAITING, in the grid's own order."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = _ReplayStorage()
        study = optuna.create_study(
            storage=self._storage,
            study_name=grid.name,
            direction=grid.direction,
            pruner=pruner,
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        study.set_user_attr(FINAL_ATTR, "best" if grid.best_counts else "last")
        super().__init__(study, Objective(metric=OBJECTIVE, direction=grid.direction))
        self._grid = grid
        self._verdicts: dict[tuple[str, int], Verdict] = {}
        planned = grid.planned
        for index, axes in enumerate(grid.axes()):
            key = str(index)
            name = grid.trials[index].name
            cell = Cell(index=index, axes=axes, config=_NO_CONFIG, fingerprint=key, name=name)
            self.add_cell(cell, planned_samples=planned, calibration=index in calibration)

    def record(self, fingerprint: str, measurement: Measurement) -> None:
        """Keep what was logged at this point and nothing else."""
        trial_id, samples = self._trial_id(fingerprint), measurement.samples_seen
        point = self._grid.trials[int(fingerprint)].points[measurement.milestone - 1]
        logged = {name: value for name, value in point.signals.items() if name != OBJECTIVE}
        entry = {"samples_seen": samples, "warmup_done": measurement.warmup_done, **logged}
        if point.first_loss is not None:
            entry["first_loss"] = point.first_loss
        objective = measurement.scores.get(OBJECTIVE)
        self._storage.add_report(trial_id, samples, objective, milestone_key(measurement.milestone), entry)

    def verdict_at(self, fingerprint: str, milestone: int) -> Verdict | None:
        return self._verdicts.get((fingerprint, milestone))

    def keep_verdict(self, fingerprint: str, milestone: int, verdict: Verdict, *, again: bool = False) -> None:
        self._verdicts[fingerprint, milestone] = verdict

    def finish(
        self,
        fingerprint: str,
        state: TrialState,
        *,
        objective: float | None = None,
        cause: FailCause | None = None,
        detail: str = "",
    ) -> None:
        """End a trial; one that ran to its end gets its recorded final value, or fails where that is not finite."""
        final = self._grid.trials[int(fingerprint)].final
        trial_id, storage = self._trial_id(fingerprint), self.study._storage
        # Straight to the storage: Study.tell copies the whole trial, which took an eighth of a replay.
        if state is TrialState.PRUNED:
            storage.set_trial_state_values(trial_id, optuna.trial.TrialState.PRUNED)
        elif math.isfinite(final):
            storage.set_trial_state_values(trial_id, optuna.trial.TrialState.COMPLETE, [final])
        else:
            storage.set_trial_state_values(trial_id, optuna.trial.TrialState.FAIL)

    @property
    def verdicts(self) -> Mapping[tuple[str, int], Verdict]:
        """Every verdict by fingerprint and milestone."""
        return self._verdicts


def trial_info(grid: Grid, index: int, axes: Mapping[str, Any], *, calibration: bool) -> TrialInfo:
    """Return what the judge is told of a recorded trial as it starts."""
    return TrialInfo(
        fingerprint=str(index),
        name=grid.trials[index].name,
        axes=axes,
        config=_NO_CONFIG,
        derived=NO_NUMBERS,
        calibration=calibration,
    )


def measurement_of(grid: Grid, index: int, place: int) -> Measurement:
    """Return the measurement of a trial's ``place``-th point, from 0.

    A signal that was not logged stands as 0 here, for the judge wants numbers, and is left out of the record. The last
    point carries a finite objective wherever the trial has a final value, so that the trial can end with it.
    """
    trial = grid.trials[index]
    point = trial.points[place]
    is_last = place == len(trial.points) - 1
    return Measurement(
        milestone=place + 1,
        samples_seen=point.resource,
        tokens_seen=point.resource,
        step=place + 1,
        warmup_done=point.warmup_done,
        train_loss=point.signals.get("train_loss", 0.0),
        grad_norm=point.signals.get("grad_norm", 0.0),
        scores=_scores(point, trial.final, is_last=is_last),
        train_s=float(point.resource),
        eval_s=0.0,
        peak_memory_bytes=0,
        is_last=is_last,
    )


def _scores(point: Point, final: float, *, is_last: bool) -> dict[str, float]:
    logged = point.signals.get(OBJECTIVE)
    if is_last and math.isfinite(final) and (logged is None or not math.isfinite(logged)):
        return {OBJECTIVE: final}
    return {} if logged is None else {OBJECTIVE: logged}
