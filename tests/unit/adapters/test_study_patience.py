"""A database that does not answer for a while is waited for, and nothing is done twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import OperationalError

from sweeper.adapters import study_patience
from sweeper.adapters.study_patience import PatientStorage


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(study_patience, "PAUSE_S", 0.05)
    return tmp_path / "study.db"


@pytest.fixture
def study(file: Path) -> optuna.Study:
    # A database that is locked longer than a connection waits answers like one that is away.
    storage = PatientStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 0.05}})
    return optuna.create_study(storage=storage, study_name="s")


@contextmanager
def away(file: Path) -> Iterator[Callable[[], None]]:
    """Keep everyone else out of the database until the yielded function is called."""
    connection = sqlite3.connect(file, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    yield connection.rollback
    connection.close()


def while_away(file: Path, call: Callable[[], Any]) -> Any:
    with away(file) as come_back:
        timer = threading.Timer(0.4, come_back)
        timer.start()
        result = call()
        timer.join()
    return result


def test_writes_and_reads_wait_for_the_database_and_happen_once(study: optuna.Study, file: Path) -> None:
    storage = study._storage
    template = create_trial(state=TrialState.WAITING, user_attrs={"fingerprint": "abc"})
    number = while_away(file, lambda: storage.create_new_trial(study._study_id, template_trial=template))
    assert while_away(file, lambda: storage.set_trial_state_values(number, TrialState.RUNNING))
    while_away(file, lambda: storage.set_trial_user_attr(number, "milestone:1", {"loss": 2.0}))
    while_away(file, lambda: storage.set_trial_intermediate_value(number, 100, 2.0))
    while_away(file, lambda: storage.set_trial_state_values(number, TrialState.COMPLETE, [2.0]))
    (trial,) = while_away(file, lambda: optuna.load_study(storage=f"sqlite:///{file}", study_name="s").trials)
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.COMPLETE, 2.0, {100: 2.0})
    assert trial.user_attrs["milestone:1"] == {"loss": 2.0}


def test_a_trial_that_was_made_although_the_answer_was_lost_is_not_made_again(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = optuna.storages.RDBStorage._create_new_trial
    answers = iter([False, True])

    def lose_the_first_answer(*args: Any) -> Any:
        trial = made(*args)
        if next(answers, True):
            return trial
        raise OperationalError("COMMIT", {}, ConnectionError("lost"))

    monkeypatch.setattr(optuna.storages.RDBStorage, "_create_new_trial", lose_the_first_answer)
    template = create_trial(state=TrialState.WAITING, user_attrs={"fingerprint": "abc"})
    study._storage.create_new_trial(study._study_id, template_trial=template)
    assert len(study.get_trials()) == 1


def test_patience_ends(file: Path, study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_patience, "PATIENCE_S", 0.1)
    with away(file), pytest.raises(optuna.exceptions.StorageInternalError):
        study.set_user_attr("a", 1)
