"""A finished sweep of our own as recorded curves."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper.core.errors import InputError
from sweeper.core.layout import SweepFolder
from sweeper.pruners.base import minimizes
from sweeper.pruners.history import GRAD_NORM, OBJECTIVE, TRAIN_LOSS, History, history
from sweeper.pruners.record import axes, replicate_of
from sweeper.replay.curves import Grid, Point, RecordedTrial
from sweeper.sweep import open_ledger, reopen


def load_sweep(folder: SweepFolder) -> tuple[Grid, int]:
    """Return the trials of a sweep that ran to their end, and how many others were left out.

    A pruned trial's end is not known, so nothing can be said about what another pruner would have lost with it: record
    a grid to replay with ``pruner: nop``.

    Raises:
        InputError: fewer than two trials ran to their end.
    """
    space, _ = reopen(folder)
    return recorded_grid(open_ledger(folder, space).study, folder.name)


def recorded_grid(study: optuna.Study, name: str) -> tuple[Grid, int]:
    """Return the complete trials of any study that keeps its record as ours do, and how many others were left out."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if not replicate_of(trial)]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if len(complete) < 2:
        raise InputError(
            "needs at least two trials that ran to their end",
            where=name,
            got=len(complete),
            mend="record a grid to replay with pruner: nop",
        )
    grid = Grid(
        name=name,
        direction="minimize" if minimizes(study) else "maximize",
        best_counts=False,
        trials=tuple(_recorded(trial) for trial in complete),
    )
    return grid, len(trials) - len(complete)


def _recorded(trial: FrozenTrial) -> RecordedTrial:
    assert trial.value is not None
    past = history(trial)
    return RecordedTrial(
        name=str(trial.user_attrs.get("name", trial.number)),
        config=axes(trial),
        final=trial.value,
        points=tuple(_point(past, samples, is_first=place == 0) for place, samples in enumerate(past.marks)),
    )


def _point(past: History, samples: int, *, is_first: bool) -> Point:
    found = {name: past.value_at(name, samples) for name in (OBJECTIVE, TRAIN_LOSS, GRAD_NORM)}
    return Point(
        resource=samples,
        signals={name: value for name, value in found.items() if value is not None},
        warmup_done=samples >= past.warmup_end,
        first_loss=past.start_loss if is_first else None,
    )
