"""A run that another trainer logged, and its way to a line of a ``curves/1`` file. Pure.

The axis is samples seen, as everywhere. Where a trainer logged optimizer steps, samples are steps times the effective
batch size; where that is not known either, the run is refused, for a guess would decide which run looks better early.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sweeper.core.decode import encode
from sweeper.core.errors import InputError
from sweeper.imports import names
from sweeper.replay.curves import FORMAT

Direction = Literal["minimize", "maximize"]
OBJECTIVE: Final = "objective"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedRun:
    """What was logged, by the trainer's own names."""

    name: str
    where: str
    """The file or address, for messages."""
    settings: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    """One mapping of names to values per logged moment, in their order."""
    step_is_samples: bool = False
    """Whether ``step`` counts samples, as in our own record."""
    unfinished: str = ""
    """Why the run is known not to have come to its end; empty otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the user asked for."""

    objective: str | None = None
    """The trainer's name of the number by which runs are ranked; None means the first held-out loss that is found."""
    direction: Direction | None = None
    """None means minimize for a name that ends in ``loss``, and has to be given for any other."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of all runs; they win over logged ones."""
    axes: tuple[str, ...] = ()
    """Further settings to take over."""


def curves(grid: str, runs: Sequence[LoggedRun], wanted: Wanted) -> list[dict[str, Any]]:
    """Return the header and one line per run.

    Raises:
        InputError: no run, a run without samples or objective, no finite objective, or runs that nothing sets apart.
    """
    if not runs:
        raise InputError("no run that came to its end", where=grid)
    objective = wanted.objective or _common_objective(runs)
    direction = wanted.direction or _implied_direction(objective)
    trials = [_trial(run, objective, wanted) for run in runs]
    _refuse_look_alikes(trials)
    if not any(math.isfinite(float(trial["final"])) for trial in trials):
        raise InputError(f"no run has a finite {objective!r} at its end", where=runs[0].where)
    header = {
        "format": FORMAT,
        "grid": grid,
        "objective": {"metric": objective, "direction": direction, "final": "last"},
        "resource": "samples",
        "n_trials": len(trials),
    }
    return [header, *trials]


def _common_objective(runs: Sequence[LoggedRun]) -> str:
    for name in names.OBJECTIVES:
        if all(any(names.number(record.get(name)) is not None for record in run.records) for run in runs):
            return name
    known = sorted({str(name) for record in runs[0].records for name in record})
    raise InputError(
        "no held-out loss that every run logged",
        where=runs[0].where,
        got=known[:30],
        mend="name what runs are ranked by: --objective NAME",
    )


def _implied_direction(objective: str) -> Direction:
    if objective.endswith(("loss", "perplexity")):
        return "minimize"
    raise InputError("say which way is better", where="--objective", got=objective, mend="give --direction")


def _trial(run: LoggedRun, objective: str, wanted: Wanted) -> dict[str, Any]:
    settings = {**run.settings, **wanted.settings}
    points: dict[int, dict[str, float]] = {}
    # One name per run: a Trainer logs `loss` at its steps, and at the end a `train_loss` that is the mean of all.
    logged = {key: _name_in(run, known) for key, known in names.SIGNALS.items()}
    stale: float | None = None
    for record in run.records:
        found = {key: names.number(record.get(name)) for key, name in logged.items()}
        score = names.number(record.get(objective))
        # Some trainers repeat the latest score at every step; it was measured once.
        found[OBJECTIVE] = None if score == stale else score
        stale = stale if score is None else score
        kept = {key: value for key, value in found.items() if value is not None}
        if kept:
            points.setdefault(_samples(run, record, settings), {}).update(kept)
    scored = [point[OBJECTIVE] for _, point in sorted(points.items()) if OBJECTIVE in point]
    if not scored:
        raise InputError(f"never logged {objective!r}", where=run.where, mend="choose another: --objective NAME")
    curve = [{"resource": samples, **points[samples]} for samples in sorted(points)]
    line = {"trial": run.name, "config": names.axes_of(settings, wanted.axes), "final": scored[-1]}
    encoded: dict[str, Any] = encode({**line, "cost": curve[-1]["resource"], "curve": curve})
    return encoded


def _name_in(run: LoggedRun, known: tuple[str, ...]) -> str:
    return next((name for name in known if any(names.number(each.get(name)) is not None for each in run.records)), "")


def _samples(run: LoggedRun, record: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    logged = names.number(names.first(record, names.SAMPLES))
    step = names.number(names.first(record, names.STEP))
    if logged is None and run.step_is_samples:
        logged = step
    if logged is None:
        batch = names.effective_batch(settings)
        if step is None:
            raise InputError(
                "a line has neither a step nor samples seen", where=run.where, got=sorted(map(str, record))[:12]
            )
        if batch is None:
            parts = ", ".join(part[0] for part in names.PARTS_OF_BATCH)
            raise InputError(
                f"the effective batch size is not known: needs batch_size, or {parts}, all three",
                where=run.where,
                got=sorted(set(settings) & {name for part in names.PARTS_OF_BATCH for name in part}),
                mend="give what is missing: --set batch_size=N, or PATH@batch_size=N",
            )
        logged = step * batch
    if not 0 <= logged < float("inf") or logged != int(logged):
        raise InputError("samples seen must be a whole number", where=run.where, got=logged)
    return int(logged)


def _refuse_look_alikes(trials: Sequence[Mapping[str, Any]]) -> None:
    configs = [trial["config"] for trial in trials]
    if len(trials) > 1 and all(config == configs[0] for config in configs):
        raise InputError(
            f"no known setting differs between the {len(trials)} runs",
            where=str(trials[0]["trial"]),
            got=sorted(configs[0]),
            mend="name what does: --axis NAME, or give it: PATH@learning_rate=1e-5",
        )
