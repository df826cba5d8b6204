"""A study's database that is away for minutes costs the sweep minutes, not its life."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError

PATIENCE_S: Final = 900.0
"""How long a call is repeated: a server's restart takes seconds, a fail-over a few minutes."""
PAUSE_S: Final = 1.0
_AWAY: Final = (OperationalError, InterfaceError)
_MAYBE_AWAY: Final = (*_AWAY, StorageInternalError)
_SAFE_TO_REPEAT: Final = (
    "get_all_studies",
    "get_all_trials",
    "get_study_directions",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_user_attrs",
    "get_trial",
    "set_study_user_attr",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "_get_trials",
)

Call = TypeVar("Call", bound=Callable[..., Any])


def _is_away(error: Exception) -> bool:
    """Return whether the database was not there; Optuna wraps that and invalid data into one error."""
    return isinstance(error.__cause__ if isinstance(error, StorageInternalError) else error, _AWAY)


def patient(call: Call) -> Call:
    """Repeat a call while the database is away, for ``PATIENCE_S`` at most; then its error is raised."""

    @functools.wraps(call)
    def repeated(*args: Any, **kwargs: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call(*args, **kwargs)
            except _MAYBE_AWAY as error:
                if not _is_away(error) or time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_S)

    return cast(Call, repeated)


class PatientStorage(RDBStorage):
    """Optuna's database storage, with every call repeated while the database is away.

    A connection may break after the server has done what it was asked, and before it could say so. So a repeated call
    must do nothing twice: most are safe by themselves, and the two that are not look first.
    """

    @patient
    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        before = super().get_trial(trial_id)
        try:
            return super().set_trial_state_values(trial_id, state, values)
        except _MAYBE_AWAY as error:
            if not _is_away(error):
                raise
            time.sleep(PAUSE_S)
            if patient(super().get_trial)(trial_id).state is state and before.state is not state:
                return True
            raise
        except UpdateFinishedTrialError:
            if before.state is state:
                raise
            return True

    @patient
    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        try:
            return super()._create_new_trial(study_id, template_trial)
        except _MAYBE_AWAY as error:
            if not _is_away(error):
                raise
            time.sleep(PAUSE_S)
            made = [] if template_trial is None else patient(super().get_all_trials)(study_id, deepcopy=False)
            for trial in made:
                if template_trial is not None and trial.user_attrs == template_trial.user_attrs:
                    return trial
            raise


for _name in _SAFE_TO_REPEAT:
    setattr(PatientStorage, _name, patient(getattr(RDBStorage, _name)))
