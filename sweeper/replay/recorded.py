"""A sweep's own record, judged again: its reports in the order in which they came, through the judge and the pruners.

The proof that verdicts rest on the record alone. Every event of a live sweep (a start, a report, a verdict, an end)
carries its turn; here they are played into an empty study in that order, and every verdict is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import (
    ENDED_ATTR,
    STARTED_ATTR,
    STATES,
    USER_VERDICT_ATTR,
    VERDICT_PREFIX,
    cell_record,
    verdict_at,
    was_given_again,
)
from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.errors import InputError
from sweeper.core.hold_back import HoldBack
from sweeper.core.lifecycle import TrialState
from sweeper.core.objective import Objective
from sweeper.core.record import TrialInfo
from sweeper.core.search import RULE as NOT_SEARCHED
from sweeper.core.space import Cell
from sweeper.core.verdict import Verdict, proceed
from sweeper.judge import Judge
from sweeper.pruners.record import MILESTONE_PREFIX, REVIVED_ATTR, TURN, measurement_of
from sweeper.replay.ledger import NO_NUMBERS

Kind = Literal["start", "report", "verdict", "end"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """One verdict of the sweep, and what the same report gets now."""

    trial: str
    milestone: int
    recorded: Verdict
    replayed: Verdict

    @property
    def same(self) -> bool:
        """Whether both say the same of the trial, by the same rule at the same samples, for the same reason."""
        # As text: NaN among the signals does not equal itself.
        return repr(self.recorded) == repr(self.replayed)


@dataclass(frozen=True, slots=True)
class _Event:
    turn: int
    kind: Kind
    trial: FrozenTrial
    milestone: int = 0


class _Clock:
    def now_ms(self) -> int:
        return 0


def judge_again(
    study: optuna.Study, objective: Objective, pruner: BasePruner, hold_back: HoldBack | None = None
) -> tuple[Given, ...]:
    """Return every verdict of the study next to the one that its record gives now, in their order.

    After a verdict that differs, the trial still ends as it is recorded, so that later ones rest on the same past.

    Raises:
        InputError: the study does not say in which order its events came.
    """
    # The second life of a trial that its user brought back repeats the reports of the first.
    trials = [trial for trial in study.get_trials(deepcopy=False) if REVIVED_ATTR not in trial.user_attrs]
    events = sorted((event for trial in trials for event in _events(trial)), key=lambda event: event.turn)
    ledger = StudyLedger.open(optuna.storages.InMemoryStorage(), study.study_name, objective, pruner=pruner)
    for trial in trials:
        _enter(ledger, trial)
    judge = Judge(objective, ledger, (), _Clock(), hold_back)
    found: list[Given] = []
    differing: set[int] = set()
    for event in events:
        given = _play(event, ledger, judge, recorded_end=event.trial.number in differing)
        if given is not None:
            found.append(given)
            if given.recorded.prunes != given.replayed.prunes:
                differing.add(event.trial.number)
    return tuple(found)


def _play(event: _Event, ledger: StudyLedger, judge: Judge, *, recorded_end: bool) -> Given | None:
    info = _info(event.trial)
    attrs = event.trial.user_attrs
    if event.kind == "start":
        judge.begin(info)
    elif event.kind == "report":
        measurement = measurement_of(attrs[f"{MILESTONE_PREFIX}{event.milestone}"])
        if was_given_again(attrs, event.milestone):
            judge.observe(info, measurement)  # its first verdict is not kept
        else:
            ledger.record(info.fingerprint, measurement)
    elif event.kind == "verdict" and event.milestone == 0:
        recorded = verdict_at(attrs, 0)
        assert recorded is not None
        if recorded.rule == NOT_SEARCHED:
            return None
        judge.admits(info)
        replayed = ledger.verdict_at(info.fingerprint, 0) or proceed(recorded.rule, "starts the cell", 0)
        return Given(trial=info.name, milestone=0, recorded=recorded, replayed=replayed)
    elif event.kind == "end":
        state = STATES[event.trial.state]
        if STARTED_ATTR not in attrs:
            # Never started: ended as it was judged, unless that went otherwise here, or by a search that had ended.
            judged = verdict_at(attrs, 0)
            if recorded_end or (judged is not None and judged.rule == NOT_SEARCHED):
                ledger.finish(info.fingerprint, state)
        elif state is TrialState.FAIL or recorded_end or USER_VERDICT_ATTR in attrs:
            ledger.finish(info.fingerprint, state, objective=event.trial.value)
        else:
            judge.conclude(info)
    else:
        measurement = measurement_of(attrs[f"{MILESTONE_PREFIX}{event.milestone}"])
        recorded = verdict_at(attrs, event.milestone)
        assert recorded is not None
        if was_given_again(attrs, event.milestone):
            replayed = judge.reconsider(info)
        else:
            replayed = judge.observe(info, measurement)
        return Given(trial=info.name, milestone=event.milestone, recorded=recorded, replayed=replayed)
    return None


def _events(trial: FrozenTrial) -> Iterator[_Event]:
    attrs = trial.user_attrs
    reported = any(key.startswith(MILESTONE_PREFIX) for key in attrs)
    if reported and STARTED_ATTR not in attrs:
        raise InputError(
            "this sweep does not say in which order its reports came", where=cell_record(trial).name, got=trial.number
        )
    if STARTED_ATTR in attrs:
        yield _Event(int(attrs[STARTED_ATTR]), "start", trial)
    for key, value in attrs.items():
        for prefix, kind in _KINDS.items():
            if key.startswith(prefix):
                yield _Event(int(value[TURN]), kind, trial, int(key.removeprefix(prefix)))
    if ENDED_ATTR in attrs and trial.state.is_finished():
        yield _Event(int(attrs[ENDED_ATTR]), "end", trial)


_KINDS: Mapping[str, Kind] = {MILESTONE_PREFIX: "report", VERDICT_PREFIX: "verdict"}


def _enter(ledger: StudyLedger, trial: FrozenTrial) -> None:
    known = cell_record(trial)
    config = decode(TrialConfig, trial.user_attrs["config"])
    cell = Cell(index=trial.number, axes=known.axes, config=config, fingerprint=known.fingerprint, name=known.name)
    infeasible = known.detail if known.state is TrialState.INFEASIBLE else None
    ledger.add_cell(cell, planned_samples=known.planned_samples, calibration=known.calibration, infeasible=infeasible)


def _info(trial: FrozenTrial) -> TrialInfo:
    known = cell_record(trial)
    return TrialInfo(
        fingerprint=known.fingerprint,
        name=known.name,
        axes=known.axes,
        config=decode(TrialConfig, trial.user_attrs["config"]),
        derived=NO_NUMBERS,
        calibration=known.calibration,
    )
