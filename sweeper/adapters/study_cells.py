"""What an Optuna trial of a sweep's study says about its cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from sweeper.core.errors import RecordError
from sweeper.core.hold_back import PREFIX as HELD_BACK
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.verdict import Verdict
from sweeper.pruners import record
from sweeper.pruners.compose import GUARDS

VERDICT_PREFIX: Final = "verdict:"
"""User attribute by milestone: the verdict given there, with its turn; milestone 0 is before the start."""
STARTED_ATTR: Final = "started_turn"
ENDED_ATTR: Final = "ended_turn"
USER_VERDICT_ATTR: Final = "user_verdict"
"""User attribute: the verdict by which the user ended the trial."""
PAUSED_ATTR: Final = "paused"
"""User attribute of a trial that rests: its turn and ``asked_after``; None once it has gone on."""
_AGAIN: Final = "again"
"""In a verdict: it was given while the trial rested, in place of the one given as it came to this milestone."""
CLONE_ATTR: Final = "clone_of"
"""User attribute: fingerprint of the cell of which this one is a changed copy."""

STATES = {
    OptunaState.WAITING: TrialState.WAITING,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAIL,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRecord:
    """What the study knows about one cell."""

    fingerprint: str
    name: str
    axes: Mapping[str, Any]
    state: TrialState
    calibration: bool
    planned_samples: int
    samples_seen: int
    objective: float | None
    """Final objective of a complete trial, else the latest reported one; None where nothing was reported."""
    verdict: Verdict | None
    """The verdict that ended the trial, or the latest one."""
    held_back: str
    """The rule that would have pruned the trial, had it not been held back; empty otherwise."""
    cause: FailCause | None
    """What kind of failure ended the trial; None where none did."""
    detail: str
    """Why the cell failed or is infeasible; empty otherwise."""
    attempts: int
    """How often the trial was started."""
    clone_of: str
    """Fingerprint of the cell of which this one is a changed copy; empty for a cell of the grid."""
    is_wanted: bool
    """Whether the user asked for this cell by name, so that it runs before the others."""
    train_s: float
    """Seconds of training at the last measurement."""
    eval_s: float
    """Seconds of evaluation at the last measurement."""
    replicate_of: str
    """Fingerprint of the cell that this one repeats with a fresh seed; empty for a cell of the grid."""
    seed: int | None
    """Its ``train.seed``; None in a study that does not say."""

    @property
    def ended_by_guard(self) -> bool:
        return self.verdict is not None and self.verdict.prunes and self.verdict.rule in GUARDS


def cell_record(trial: FrozenTrial) -> CellRecord:
    """Return what the trial says; raises ``RecordError`` for one that this program did not write."""
    attrs = trial.user_attrs
    infeasible = attrs.get("infeasible")
    value = trial.value if trial.state is OptunaState.COMPLETE else None
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    last = last_milestone(attrs)
    return CellRecord(
        fingerprint=attr(trial, "fingerprint"),
        name=attr(trial, "name"),
        axes=attrs["axes"],
        state=TrialState.INFEASIBLE if infeasible is not None else _state(trial),
        calibration=bool(attrs.get("calibration")),
        planned_samples=int(attrs["planned_samples"]),
        samples_seen=int(attrs[record.milestone_key(last)]["samples_seen"]) if last else 0,
        objective=value,
        verdict=_user_verdict(attrs) or verdict_at(attrs, last),
        held_back=_held_back(attrs, last),
        cause=FailCause(attrs["fail_cause"]) if "fail_cause" in attrs else None,
        detail=str(infeasible or attrs.get("detail", "")),
        attempts=int(attrs.get("attempts", 0)),
        clone_of=str(attrs.get(CLONE_ATTR, "")),
        is_wanted=CLONE_ATTR in attrs or record.REVIVED_ATTR in attrs,
        train_s=float(attrs[record.milestone_key(last)]["train_s"]) if last else 0.0,
        eval_s=float(attrs[record.milestone_key(last)]["eval_s"]) if last else 0.0,
        replicate_of=record.replicate_of(trial),
        seed=attrs.get("config", {}).get("train", {}).get("seed"),
    )


def _state(trial: FrozenTrial) -> TrialState:
    """A trial that rests is RUNNING to Optuna, so that pruners see what it has shown."""
    if trial.state is OptunaState.RUNNING and trial.user_attrs.get(PAUSED_ATTR) is not None:
        return TrialState.PAUSED
    return STATES[trial.state]


def verdict_entry(verdict: Verdict, turn: int, *, again: bool) -> dict[str, Any]:
    """Return what is kept of a verdict; ``again``: given while the trial rested."""
    return {**verdict.to_json(), record.TURN: turn, **({_AGAIN: True} if again else {})}


def was_given_again(attrs: Mapping[str, Any], milestone: int) -> bool:
    """Return whether the verdict at this milestone was given while the trial rested there."""
    return bool(attrs.get(f"{VERDICT_PREFIX}{milestone}", {}).get(_AGAIN, False))


def verdict_at(attrs: Mapping[str, Any], milestone: int) -> Verdict | None:
    """Return the verdict that a trial's attributes hold for this milestone."""
    plain = attrs.get(f"{VERDICT_PREFIX}{milestone}")
    return None if plain is None else Verdict.from_json(_without_turn(plain))


def revived_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pruned trial takes along into its second life: all but the verdicts that ended it, and its end."""

    def ended_it(key: str, value: Any) -> bool:
        is_prune = key.startswith(VERDICT_PREFIX) and Verdict.from_json(_without_turn(value)).prunes
        return is_prune or key in (ENDED_ATTR, STARTED_ATTR, USER_VERDICT_ATTR, PAUSED_ATTR)

    return {key: value for key, value in attrs.items() if not ended_it(key, value)} | {record.REVIVED_ATTR: True}


def _user_verdict(attrs: Mapping[str, Any]) -> Verdict | None:
    plain = attrs.get(USER_VERDICT_ATTR)
    return None if plain is None else Verdict.from_json(plain)


def _without_turn(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if key not in (record.TURN, _AGAIN)}


def _held_back(attrs: Mapping[str, Any], last: int) -> str:
    rules = (str(attrs.get(f"{VERDICT_PREFIX}{place}", {}).get("rule", "")) for place in range(last + 1))
    return next((rule.removeprefix(HELD_BACK) for rule in rules if rule.startswith(HELD_BACK)), "")


def last_turn(attrs: Mapping[str, Any]) -> int:
    """Return the latest turn of anything in a trial's attributes, 0 where there is none."""
    inside = (value.get(record.TURN, 0) for value in attrs.values() if isinstance(value, dict))
    return max(*(int(attrs.get(key, 0)) for key in (STARTED_ATTR, ENDED_ATTR)), *map(int, inside), 0)


def last_milestone(attrs: Mapping[str, Any]) -> int:
    """Return the latest milestone of which a trial's attributes hold a measurement, 0 where there is none."""
    prefix = record.MILESTONE_PREFIX
    return max((int(key.removeprefix(prefix)) for key in attrs if key.startswith(prefix)), default=0)


def attr(trial: FrozenTrial, key: str) -> str:
    """Return a text attribute; raises ``RecordError`` where it is missing."""
    if key not in trial.user_attrs:
        raise RecordError(f"trial {trial.number} of the study has no {key!r}: it was not written by this program")
    return str(trial.user_attrs[key])
