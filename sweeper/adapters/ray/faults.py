"""What broke a gang: the errors of its ranks, boiled down to one cause, one trace, and whether to try again."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from sweeper.core.errors import SweeperError
from sweeper.core.lifecycle import FailCause

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NETWORK_ERRORS = frozenset({"DistBackendError", "DistNetworkError", "DistStoreError"})
_MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ETIMEDOUT, errno.ENOTCONN}
)
"""What a disk says that is full, broken or away."""


class GangError(SweeperError):
    """A trial ended with an error on a rank; the gang is broken and must be replaced."""

    def __init__(self, cause: FailCause, detail: str, is_retried: bool = False, torn: str | None = None) -> None:
        """Say what broke the gang.

        Args:
            cause: what the trial fails by, unless another try succeeds.
            detail: the trace.
            is_retried: the machine is to blame, so the trial is worth another try.
            torn: the checkpoint that could not be read, if that is what went wrong.
        """
        self.cause = cause
        self.detail = detail
        self.is_retried = is_retried
        self.torn = torn
        # All of them: an exception crosses a process border by its arguments.
        super().__init__(cause, detail, is_retried, torn)

    def __str__(self) -> str:
        lines = self.detail.strip().splitlines()
        return f"{self.cause.value}: {lines[-1] if lines else 'no detail'}"


class TornCheckpoint(SweeperError):
    """A checkpoint bears its name and cannot be read."""

    def __init__(self, folder: str, reason: str) -> None:
        self.folder = folder
        super().__init__(folder, reason)

    def __str__(self) -> str:
        return "checkpoint {} cannot be read: {}".format(*self.args)


def explain(calls: Sequence[ray.ObjectRef], first: RayError, limit_s: float | None) -> GangError:
    """Return what really broke the gang.

    When one rank dies, the others fail a moment later with a lost connection, and either error may come first.
    """
    errors: list[RayError] = [first]
    ray.wait(list(calls), num_returns=len(calls), timeout=2.0)
    for call in calls:
        try:
            ray.get(call, timeout=0)
        except GetTimeoutError:
            continue
        except RayError as error:
            errors.append(error)
    died = [error for error in errors if isinstance(error, RayActorError)]
    if died:
        cause = FailCause.OOM if _died_of_memory(died[0]) else FailCause.CRASH
        return GangError(cause, _told(died[0]), True)
    raised = [error for error in errors if isinstance(error, RayTaskError)]
    own = [error for error in raised if not _is_lost_connection(error)]
    if own or raised:
        return of_task((own or raised)[0])
    if isinstance(first, GetTimeoutError):
        return GangError(FailCause.HANG, f"no rank came to its next milestone within {limit_s:.0f} s", True)
    return GangError(FailCause.CRASH, str(first), True)


def of_task(error: RayTaskError) -> GangError:
    """Return what an error that was raised inside an actor stands for; one that is explained already stays."""
    if isinstance(error.cause, GangError):
        return error.cause
    cause = _cause(error)
    torn = error.cause.folder if isinstance(error.cause, TornCheckpoint) else None
    return GangError(cause, _COLOURS.sub("", str(error)), cause is FailCause.CRASH, torn)


def of_actor(error: Exception | None) -> GangError:
    """Return what the end of a trial's actor stands for, as Tune hands it over."""
    if isinstance(error, RayTaskError):
        return of_task(error)
    is_memory = isinstance(error, RayActorError) and _died_of_memory(error)
    detail = _told(error) if error is not None else "the trial's process died"
    return GangError(FailCause.OOM if is_memory else FailCause.CRASH, detail, True)


def _told(error: Exception) -> str:
    """Return what Ray says of a death, without its paragraph on what it might mean."""
    return str(error).split(" Some common causes include")[0]


def _died_of_memory(error: RayActorError) -> bool:
    """Return whether Ray's memory monitor ended the process; the kernel's leaves no word."""
    return "running low on memory" in str(error)


def _is_lost_connection(error: RayTaskError) -> bool:
    # Gloo raises a plain RuntimeError that names its source file: refused, reset, timed out, closed by the other side.
    told = str(error.cause)
    return type(error.cause).__name__ in _NETWORK_ERRORS or "gloo/transport/" in told or "closed by peer" in told


def _cause(error: RayTaskError) -> FailCause:
    names = {cls.__name__ for cls in type(error.cause).__mro__}
    if names & {"OutOfMemory", "OutOfMemoryError", "MemoryError"}:
        return FailCause.OOM
    if "InputError" in names:
        return FailCause.DATA
    is_machine = isinstance(error.cause, OSError) and error.cause.errno in _MACHINE_ERRNOS
    if (
        is_machine
        or names & {"TornCheckpoint", "RecordError", "ConnectionError", "ProgramDied"}
        or _is_lost_connection(error)
    ):
        return FailCause.CRASH
    return FailCause.USER_CODE
