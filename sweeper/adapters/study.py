"""The Optuna study: the one source of truth about every cell of a sweep.

A cell is one Optuna trial, found again by the fingerprint of its config. Its state, its measurements, every verdict
and its end are kept here and nowhere else; Ray forgets, MLflow shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from sweeper.adapters.study_cells import (
    CLONE_ATTR,
    ENDED_ATTR,
    PAUSED_ATTR,
    STARTED_ATTR,
    STATES,
    USER_VERDICT_ATTR,
    VERDICT_PREFIX,
    CellRecord,
    attr,
    cell_record,
    last_milestone,
    last_turn,
    revived_attrs,
    verdict_at,
    verdict_entry,
)
from sweeper.adapters.study_storage import forced_with_the_next
from sweeper.core.decode import encode
from sweeper.core.errors import LifecycleError, RecordError
from sweeper.core.lifecycle import FailCause, TrialState, check_transition
from sweeper.core.measurement import Measurement
from sweeper.core.objective import Objective
from sweeper.core.space import Cell
from sweeper.core.verdict import Decision, Verdict, proceed
from sweeper.pruners import record
from sweeper.pruners.base import VerdictPruner

_FINAL_STATES = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAIL: OptunaState.FAIL,
}


class StudyLedger:
    """Reads and writes one sweep's study. One driver writes at a time; anyone may read."""

    def __init__(
        self, study: optuna.Study, objective: Objective, grid: Mapping[str, Iterable[Any]] | None = None
    ) -> None:
        self._study = study
        self._objective = objective
        # One distribution per axis for all cells, so that Optuna's importance and plots see one common space.
        self._distributions = {
            axis: CategoricalDistribution(tuple(dict.fromkeys(_param(value) for value in values)))
            for axis, values in (grid or {}).items()
        }
        self._turns: int | None = None
        self._changed: dict[str, None] = {}
        self._trial_ids: dict[str, int] = {}
        for trial in study.get_trials(deepcopy=False):
            self._trial_ids[attr(trial, "fingerprint")] = trial._trial_id

    @classmethod
    def open(
        cls,
        storage: BaseStorage,
        name: str,
        objective: Objective,
        *,
        pruner: optuna.pruners.BasePruner | None = None,
        grid: Mapping[str, Iterable[Any]] | None = None,
    ) -> StudyLedger:
        """Create the study or open the existing one of this name."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=objective.resolved_direction,
            pruner=pruner or optuna.pruners.NopPruner(),
            sampler=optuna.samplers.RandomSampler(seed=0),
            load_if_exists=True,
        )
        return cls(study, objective, grid)

    @property
    def study(self) -> optuna.Study:
        return self._study

    def add_cell(
        self,
        cell: Cell,
        *,
        planned_samples: int,
        calibration: bool,
        infeasible: str | None = None,
        clone_of: str | None = None,
        replicate_of: str = "",
    ) -> None:
        """Enter a cell as WAITING, or as INFEASIBLE with its reason. A cell already there is left as it is.

        Args:
            clone_of: fingerprint of the cell that the user changed to get this one, which need not lie on the grid.
            replicate_of: fingerprint of the cell that this one repeats with a fresh seed.
        """
        if cell.fingerprint in self._trial_ids:
            return
        attrs: dict[str, Any] = {
            "fingerprint": cell.fingerprint,
            "name": cell.name,
            "axes": encode(cell.axes),
            "config": encode(cell.config),
            "planned_samples": planned_samples,
            "calibration": calibration,
            "attempts": 0,
        }
        if infeasible is not None:
            attrs["infeasible"] = infeasible
        params = {axis: _param(value) for axis, value in cell.axes.items()}
        attrs |= {CLONE_ATTR: clone_of} if clone_of is not None else {}
        attrs |= {record.REPLICATE_ATTR: replicate_of} if replicate_of else {}
        if clone_of is not None or replicate_of:
            # Optuna refuses a value that the axis did not have from the start.
            params = {axis: value for axis, value in params.items() if self._is_on_axis(axis, value)}
        trial = create_trial(
            state=OptunaState.WAITING if infeasible is None else OptunaState.FAIL,
            params=params,
            distributions={axis: self._distribution(axis, value) for axis, value in params.items()},
            user_attrs=attrs,
        )
        self._create(cell.fingerprint, trial)

    def start(self, fingerprint: str) -> None:
        """Mark a waiting or interrupted cell as running and count the attempt; a paused one just goes on.

        Raises:
            LifecycleError: the cell has already ended.
        """
        trial = self.trial(fingerprint)
        if trial.state is not OptunaState.RUNNING:
            check_transition(STATES[trial.state], TrialState.RUNNING)
            with forced_with_the_next(self._study._storage):
                self._set(fingerprint, STARTED_ATTR, self._turn())
                if not self._study._storage.set_trial_state_values(trial._trial_id, OptunaState.RUNNING):
                    raise LifecycleError(f"{attr(trial, 'name')} was started by another driver")
        elif trial.user_attrs.get(PAUSED_ATTR) is not None:
            self._set(fingerprint, PAUSED_ATTR, None)
            return
        self._set(fingerprint, "attempts", trial.user_attrs.get("attempts", 0) + 1)

    def pause(self, fingerprint: str, asked_after: int) -> None:
        """Mark a running cell as paused; ``asked_after``: trials that had ended when the pruner was last asked.

        Raises:
            LifecycleError: it is not running.
        """
        check_transition(self.cell(fingerprint).state, TrialState.PAUSED)
        self._set(fingerprint, PAUSED_ATTR, {"asked_after": asked_after, record.TURN: self._turn()})

    def paused(self) -> dict[str, int]:
        """Return what ``pause`` was told of each cell that rests, in the order in which they were paused."""
        found = {
            attr(trial, "fingerprint"): trial.user_attrs[PAUSED_ATTR]
            for trial in self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,))
            if trial.user_attrs.get(PAUSED_ATTR) is not None
        }
        in_order = sorted(found.items(), key=lambda item: int(item[1][record.TURN]))
        return {fingerprint: int(each["asked_after"]) for fingerprint, each in in_order}

    def latest(self, fingerprint: str) -> tuple[Measurement, Verdict] | None:
        """Return a cell's latest measurement and the verdict given there, None where it has none.

        Of the measurement's series only the first loss is kept.
        """
        attrs = self.trial(fingerprint).user_attrs
        last = last_milestone(attrs)
        verdict = verdict_at(attrs, last)
        if not last or verdict is None:
            return None
        return record.measurement_of(attrs[record.milestone_key(last)]), verdict

    def record(self, fingerprint: str, measurement: Measurement) -> None:
        """Keep a measurement; one that the study already holds (a re-run of an interrupted trial) changes nothing."""
        if record.milestone_key(measurement.milestone) not in self.trial(fingerprint).user_attrs:
            self._changed[fingerprint] = None
            objective = measurement.signal(self._objective.metric)
            live = optuna.trial.Trial(self._study, self._trial_id(fingerprint))
            with forced_with_the_next(self._study._storage):  # by the verdict's
                record.report(live, measurement, objective, turn=self._turn())

    def verdict_at(self, fingerprint: str, milestone: int) -> Verdict | None:
        """Return the verdict once given at this milestone."""
        return verdict_at(self.trial(fingerprint).user_attrs, milestone)

    def advise(self, fingerprint: str, *, again: bool = False) -> Verdict:
        """Ask the study's pruner about a running trial; ``again``: about a paused one, before it goes on."""
        trial = self.trial(fingerprint)
        pruner = self._study.pruner
        if isinstance(pruner, VerdictPruner):
            return pruner.reconsider(self._study, trial) if again else pruner.verdict(self._study, trial)
        samples_seen = trial.last_step or 0
        rule = type(pruner).__name__
        if pruner.prune(self._study, trial):
            reason = f"{rule} says so and gives no reason"
            return Verdict(decision=Decision.PRUNE, rule=rule, reason=reason, samples_seen=samples_seen)
        return proceed(rule, "nothing against it", samples_seen)

    def skip(self, fingerprint: str) -> Verdict | None:
        """Ask the study's pruner about a waiting cell; a stock pruner lets every cell run."""
        pruner = self._study.pruner
        return pruner.skip(self._study, self.trial(fingerprint)) if isinstance(pruner, VerdictPruner) else None

    def keep_verdict(self, fingerprint: str, milestone: int, verdict: Verdict, *, again: bool = False) -> None:
        self._set(fingerprint, f"{VERDICT_PREFIX}{milestone}", verdict_entry(verdict, self._turn(), again=again))

    def finals(self) -> dict[str, float]:
        """Return the final objectives of the trials that ran to their end, by fingerprint."""
        done = self._study.get_trials(deepcopy=False, states=(OptunaState.COMPLETE,))
        return {attr(trial, "fingerprint"): trial.value for trial in done if trial.value is not None}

    def suspend(self, rule: str, reason: str) -> None:
        """End nothing by this rule from now on; the first reason stays."""
        if record.suspended(self._study, rule) is None:
            self._study.set_user_attr(record.SUSPENDED_PREFIX + rule, reason)

    def suspended(self) -> dict[str, str]:
        """Return the rules that end nothing any more, each with its reason."""
        prefix, attrs = record.SUSPENDED_PREFIX, self._study.user_attrs
        return {key.removeprefix(prefix): str(value) for key, value in attrs.items() if key.startswith(prefix)}

    def finish(
        self,
        fingerprint: str,
        state: TrialState,
        *,
        objective: float | None = None,
        cause: FailCause | None = None,
        detail: str = "",
    ) -> None:
        """End a running trial, or a waiting one as PRUNED. COMPLETE needs a finite objective.

        Raises:
            LifecycleError: the trial has ended, or was to end otherwise without having run.
        """
        trial = self.trial(fingerprint)
        check_transition(STATES[trial.state], state)
        with forced_with_the_next(self._study._storage):
            if cause is not None:
                self._set(fingerprint, "fail_cause", cause.value)
            if detail:
                self._set(fingerprint, "detail", detail)
            self._set(fingerprint, ENDED_ATTR, self._turn())
        if trial.state is OptunaState.WAITING:
            # Study.tell takes running trials only.
            self._study._storage.set_trial_state_values(trial._trial_id, _FINAL_STATES[state])
            return
        self._study.tell(trial.number, objective if state is TrialState.COMPLETE else None, state=_FINAL_STATES[state])

    def dismiss(self, fingerprint: str, verdict: Verdict) -> None:
        """End a trial as PRUNED on its user's word, whether it has begun or not.

        Raises:
            LifecycleError: it has ended already.
        """
        trial = self.trial(fingerprint)
        if trial.state is OptunaState.WAITING:
            self.start(fingerprint)
        else:
            check_transition(STATES[trial.state], TrialState.PRUNED)
        self._set(fingerprint, USER_VERDICT_ATTR, verdict.to_json())
        self.finish(fingerprint, TrialState.PRUNED)

    def revive(self, fingerprint: str) -> None:
        """Make a pruned trial WAITING again, with all its measurements; from now on only guards may end it.

        Optuna never changes a trial that has ended, so the cell gets another Optuna trial, and the newest one counts.

        Raises:
            LifecycleError: it was not pruned.
        """
        old = self.trial(fingerprint)
        if old.state is not OptunaState.PRUNED:
            raise LifecycleError(f"{attr(old, 'name')} is not pruned: {STATES[old.state].value}")
        trial = create_trial(
            state=OptunaState.WAITING,
            params=old.params,
            distributions=old.distributions,
            user_attrs=revived_attrs(old.user_attrs),
            intermediate_values=old.intermediate_values,
        )
        self._create(fingerprint, trial)

    def cell(self, fingerprint: str) -> CellRecord:
        return cell_record(self.trial(fingerprint))

    def cells(self) -> tuple[CellRecord, ...]:
        """Return every cell in grid order, clones last."""
        newest = {attr(trial, "fingerprint"): trial for trial in self._study.get_trials(deepcopy=False)}
        return tuple(cell_record(trial) for trial in newest.values())

    def changed(self) -> tuple[CellRecord, ...]:
        """Return the cells that this object has written to since it was last asked: reading all takes 50 us a cell."""
        changed, self._changed = self._changed, {}
        return tuple(self.cell(fingerprint) for fingerprint in changed)

    def config(self, fingerprint: str) -> dict[str, Any]:
        """Return the plain config of a cell as it was entered."""
        return dict(self.trial(fingerprint).user_attrs["config"])

    def trial(self, fingerprint: str) -> FrozenTrial:
        """Return the cell's trial as it stands; not to be changed."""
        return self._study._storage.get_trial(self._trial_id(fingerprint))

    def _trial_id(self, fingerprint: str) -> int:
        if fingerprint not in self._trial_ids:
            raise RecordError(f"the study has no cell {fingerprint}")
        return self._trial_ids[fingerprint]

    def _create(self, fingerprint: str, trial: FrozenTrial) -> None:
        self._changed[fingerprint] = None
        self._trial_ids[fingerprint] = self._study._storage.create_new_trial(self._study._study_id, trial)

    def _set(self, fingerprint: str, key: str, value: Any) -> None:
        self._changed[fingerprint] = None
        self._study._storage.set_trial_user_attr(self._trial_id(fingerprint), key, value)

    def _turn(self) -> int:
        """Return the next place in the order of events, after all that the study holds."""
        if self._turns is None:
            self._turns = max(
                (last_turn(trial.user_attrs) for trial in self._study.get_trials(deepcopy=False)), default=0
            )
        self._turns += 1
        return self._turns

    def _is_on_axis(self, axis: str, value: Any) -> bool:
        return axis in self._distributions and value in self._distributions[axis].choices

    def _distribution(self, axis: str, value: Any) -> CategoricalDistribution:
        return self._distributions.get(axis) or CategoricalDistribution((value,))


def _param(value: Any) -> Any:
    """Return an axis value in a form Optuna can store: scalars as they are, anything else as JSON text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value)
