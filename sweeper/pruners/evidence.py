"""What the finished trials of a study say about its signals (see ``sweeper.core.foretell``)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import optuna
from optuna.trial import TrialState

from sweeper.core.foretell import Evidence, FinishedTrial, evidence
from sweeper.pruners.base import minimizes
from sweeper.pruners.history import History, history
from sweeper.pruners.record import axes, replicate_of

GROUP_AXIS: Final = "batch_size"
"""The axis that is held fixed where a correlation within groups is asked for."""


def study_evidence(study: optuna.Study, milestones: Sequence[int]) -> tuple[Evidence, ...]:
    """Return what every signal of the study's complete trials foretold; milestones are sample counts."""
    sign = -1.0 if minimizes(study) else 1.0
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [
        finished(history(trial), milestones, goodness=sign * trial.value, group=axes(trial).get(GROUP_AXIS))
        for trial in done
        # A leader that was run again would count several times, and it is no random pick.
        if trial.value is not None and not replicate_of(trial)
    ]
    return evidence(trials, milestones)


def finished(past: History, milestones: Sequence[int], *, goodness: float, group: Hashable) -> FinishedTrial:
    """Return a trial's signals at the milestones, interpolated; None before the end of its warmup."""
    values = {name: [past.warm_value_at(name, samples) for samples in milestones] for name in past.curves}
    return FinishedTrial(group=group, goodness=goodness, values=values)
