"""What a study says of its sweep at one moment, minimised: the one place where the forecasters' input is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper.core.order import embed
from sweeper.pruners.base import minimizes
from sweeper.pruners.covariates import PAPER
from sweeper.pruners.history import OBJECTIVE, SEEN_STATES, History, remembered
from sweeper.pruners.path import Floats, Path, make_path
from sweeper.pruners.record import CALIBRATION_ATTR, axes

SPENT_ATTR: Final = "calibrated:spent"
"""User attribute of a pruned trial: the probability that it would have been the best."""
FINAL_ATTR: Final = "final"
"""Study attribute: ``best`` where trials are ranked by their best value, ``last`` (the default) by their last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepState:
    """What the study knows, minimised."""

    own: Path | None
    """The judged trial; None where it has not reported."""
    row: int
    """The judged trial's configuration."""
    peers: list[Path]
    standing: list[Path]
    """Peers that can still win: finished or running."""
    points: Floats
    going: list[int]
    """Rows of the other trials that have not ended."""
    silent: list[int]
    """Rows of the trials of which only the configuration is known: not yet heard of, or never to be started."""
    broken: int
    """Trials that ended without one finite value."""
    spent: float
    num_calibration: int
    """Of the other trials: they run to their end whatever they show, and are no mere front-runners."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of one trial, and what it was read from."""

    trial: FrozenTrial
    past: History | None
    key: tuple[Any, ...]
    path: Path | None
    has_ended: bool
    spent: float
    is_calibration: bool


class SweepReader:
    """Reads a study, keeping what has not changed since the last reading."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._points: tuple[list[int], Floats] = ([], np.zeros((0, 0)))

    def read(self, study: optuna.Study, trial: FrozenTrial) -> SweepState:
        """Return what the study holds now, as seen by this trial."""
        best_counts = study._storage.get_study_user_attrs(study._study_id).get(FINAL_ATTR) == "best"
        sign = 1.0 if minimizes(study) else -1.0
        everyone = study.get_trials(deepcopy=False, states=(*SEEN_STATES, TrialState.WAITING))
        cells = self._embedded(everyone)
        own: Path | None = None
        own_row = 0
        peers, standing, going, silent, broken, spent, num_calibration = [], [], [], [], 0, 0.0, 0
        for row, each in enumerate(everyone):
            known = self._read(study, each, row, sign, best_counts)
            if each._trial_id == trial._trial_id:
                own, own_row = known.path, row
                continue
            spent += known.spent
            num_calibration += known.is_calibration
            if not known.has_ended:
                going.append(row)
            path = known.path
            if path is not None:
                peers.append(path)
                if path.final is not None or (best_counts and not known.has_ended):
                    standing.append(path)
            elif not known.has_ended or known.past is None or not known.past.marks:
                silent.append(row)
            else:
                broken += 1
        return SweepState(
            own=own,
            row=own_row,
            peers=peers,
            standing=standing,
            points=cells,
            going=going,
            silent=silent,
            broken=broken,
            spent=spent,
            num_calibration=num_calibration,
        )

    def _embedded(self, trials: Sequence[FrozenTrial]) -> Floats:
        ids = [each._trial_id for each in trials]
        if self._points[0] != ids:
            self._points = (ids, embed([axes(each) for each in trials]))
        return self._points[1]

    def _read(self, study: optuna.Study, trial: FrozenTrial, row: int, sign: float, best_counts: bool) -> _Known:
        found = self._known.get(trial._trial_id)
        key = (trial.state, row, sign, best_counts)
        # Most of the trials have ended, and Optuna changes none of those: their record need not be read.
        if found is not None and found.trial is trial and found.has_ended and found.key == key:
            return found
        # A new attribute makes a new history: the same one means that nothing was written.
        past = None if trial.state is TrialState.WAITING else remembered(study, trial)
        if found is not None and found.past is past and found.key == key:
            return found
        self._known[trial._trial_id] = known = _Known(
            trial,
            past,
            key,
            path=None if past is None else _path(trial, past, row, sign, best_counts),
            has_ended=trial.state.is_finished(),
            spent=float(trial.user_attrs.get(SPENT_ATTR, 0.0)),
            is_calibration=bool(trial.user_attrs.get(CALIBRATION_ATTR, False)),
        )
        return known


def _path(trial: FrozenTrial, past: History, row: int, sign: float, best_counts: bool) -> Path | None:
    curve = past.curve(OBJECTIVE)
    value = trial.value if trial.state is TrialState.COMPLETE else None
    return make_path(
        curve.samples,
        [sign * v for v in curve.values],
        final=sign * value if value is not None and math.isfinite(value) else None,
        cell=row,
        best_counts=best_counts,
        signals={name: (past.curve(name).samples, past.curve(name).values) for name in PAPER if past.curve(name)},
    )
