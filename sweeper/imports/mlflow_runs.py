"""Runs of an MLflow experiment: those of other trainers, and those of a sweep of our own whose folder is gone."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Final

from sweeper.adapters.mlflow.reader import ForeignRun, read_experiment
from sweeper.adapters.mlflow.translate import score_key
from sweeper.core.errors import InputError
from sweeper.imports import names
from sweeper.imports.runs import Direction, LoggedRun, Wanted

METRICS: Final = (*chain.from_iterable(names.SIGNALS.values()), *names.OBJECTIVES, *names.SAMPLES)


def read(experiment: str, uri: str, wanted: Wanted) -> tuple[list[LoggedRun], Wanted]:
    """Return the runs, and what is wanted with the objective and direction of our own sweep filled in.

    Raises:
        InputError: there is no such experiment, or a run's samples cannot be known.
    """
    metrics = {*METRICS, wanted.objective}
    found = read_experiment(experiment, uri, lambda name: name in metrics or name.startswith(score_key("")))
    return take_over(found, experiment, wanted)


def take_over(found: list[ForeignRun], experiment: str, wanted: Wanted) -> tuple[list[LoggedRun], Wanted]:
    """Return runs as MLflow holds them as logged runs, otherwise as ``read`` does; pure."""
    if not found:
        raise InputError("holds no run with metrics", where=experiment)
    return [_logged(run, experiment) for run in found], _filled_in(found, wanted)


def _logged(run: ForeignRun, experiment: str) -> LoggedRun:
    return LoggedRun(
        name=run.name,
        where=f"{experiment}, run {run.name} ({run.run_id})",
        settings=run.params,
        records=run.records,
        step_is_samples="fingerprint" in run.tags,
        unfinished="" if run.status == "FINISHED" else f"its status is {run.status}",
    )


def _filled_in(found: list[ForeignRun], wanted: Wanted) -> Wanted:
    told = next((run.tags for run in found if {"objective", "direction"} <= set(run.tags)), None)
    if told is None or wanted.objective is not None:
        return wanted
    direction: Direction = "maximize" if told["direction"] == "maximize" else "minimize"
    return replace(wanted, objective=score_key(told["objective"]), direction=wanted.direction or direction)
