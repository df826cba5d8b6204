"""The states of a cell and the only ways between them."""

from __future__ import annotations

from enum import StrEnum

from sweeper.core.errors import LifecycleError


class TrialState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAIL = "fail"
    INFEASIBLE = "infeasible"

    @property
    def is_final(self) -> bool:
        return self not in (TrialState.WAITING, TrialState.RUNNING, TrialState.PAUSED)


class FailCause(StrEnum):
    """Why a trial failed. Only ``user_code`` and ``data`` speak about the configuration; the others never do."""

    CRASH = "crash"
    OOM = "oom"
    HANG = "hang"
    DATA = "data"
    USER_CODE = "user_code"


def with_cause(cause: FailCause, detail: str) -> str:
    """Return the trace of a failure with its cause before the last line, the one that is shown where room is short."""
    *trace, last = detail.strip().splitlines() or ["no detail"]
    return "\n".join([*trace, f"{cause.value}: {last}"])


_NEXT: dict[TrialState, frozenset[TrialState]] = {
    # WAITING -> PRUNED: a cell that was found hopeless before it was started.
    TrialState.WAITING: frozenset({TrialState.RUNNING, TrialState.INFEASIBLE, TrialState.PRUNED}),
    # RUNNING -> WAITING: the driver died or the gang broke, and the cell is to be run again.
    TrialState.RUNNING: frozenset(
        {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING, TrialState.PAUSED}
    ),
    # PAUSED -> PRUNED: condemned by what others did meanwhile, or ended by its user.
    TrialState.PAUSED: frozenset({TrialState.RUNNING, TrialState.PRUNED}),
    TrialState.COMPLETE: frozenset(),
    TrialState.PRUNED: frozenset(),
    TrialState.FAIL: frozenset(),
    TrialState.INFEASIBLE: frozenset(),
}


def check_transition(current: TrialState, target: TrialState) -> None:
    """Raise ``LifecycleError`` unless a trial may go from ``current`` to ``target``."""
    if target not in _NEXT[current]:
        allowed = ", ".join(sorted(_NEXT[current])) or "nothing: it is final"
        raise LifecycleError(f"a {current} trial cannot become {target}; allowed: {allowed}")
