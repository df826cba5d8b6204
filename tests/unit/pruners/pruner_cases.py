"""Studies made of curves, for the pruner tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from sweeper.core.measurement import Measurement, StepPoint
from sweeper.pruners.record import report

optuna.logging.set_verbosity(optuna.logging.WARNING)
NAN, INF = math.nan, math.inf


def new_study(direction: str = "minimize", pruner: BasePruner | None = None, storage: Any = None) -> optuna.Study:
    """Return a study named the same each time: Hyperband's brackets hang on the name."""
    return optuna.create_study(
        study_name="cases", direction=direction, pruner=pruner or optuna.pruners.NopPruner(), storage=storage
    )


def measurement(
    milestone: int,
    samples_seen: int,
    *,
    train_loss: float = 1.0,
    grad_norm: float = 1.0,
    warmup_done: bool = True,
    first_loss: float | None = None,
    **more: Any,
) -> Measurement:
    """Return a measurement with everything that does not matter filled in."""
    series = ()
    if first_loss is not None:
        series = (
            StepPoint(
                step=1,
                samples_seen=1,
                tokens_seen=1,
                loss=first_loss,
                grad_norm=grad_norm,
                learning_rate=1e-3,
                seconds=0.1,
            ),
        )
    plain = {"scores": {}, "train_s": 1.0, "eval_s": 0.0, "peak_memory_bytes": 1, "is_last": False, **more}
    return Measurement(
        milestone=milestone,
        samples_seen=samples_seen,
        tokens_seen=samples_seen * 10,
        step=milestone,
        warmup_done=warmup_done,
        train_loss=train_loss,
        grad_norm=grad_norm,
        series=series,
        **plain,
    )


def run_trial(
    study: optuna.Study,
    signals: Mapping[str, Sequence[float]],
    *,
    every: int = 100,
    warmup_milestones: int = 0,
    attrs: Mapping[str, Any] | None = None,
    start_loss: float | None = None,
    end: str | None = None,
) -> optuna.Trial:
    """Report curves given by signal name, one point per milestone; ``end`` is complete, pruned or None (running)."""
    trial = study.ask()
    for name, value in (attrs or {}).items():
        trial.set_user_attr(name, value)
    for k in range(len(next(iter(signals.values())))):
        report_point(trial, signals, k, every=every, warmup_milestones=warmup_milestones, start_loss=start_loss)
    if end == "complete":
        study.tell(trial, signals.get("objective", [0.0])[-1])
    elif end == "pruned":
        study.tell(trial, state=TrialState.PRUNED)
    return trial


def report_point(
    trial: optuna.Trial,
    signals: Mapping[str, Sequence[float]],
    k: int,
    *,
    every: int = 100,
    warmup_milestones: int = 0,
    start_loss: float | None = None,
) -> None:
    """Report the ``k``-th point of the curves, 0-based."""
    point = {name: values[k] for name, values in signals.items() if name != "objective"}
    objective = signals["objective"][k] if "objective" in signals else None
    first = start_loss if k == 0 else None
    done = measurement(k + 1, every * (k + 1), warmup_done=k >= warmup_milestones, first_loss=first, **point)
    report(trial, done, objective)


def pruned_at(
    pruner: BasePruner, study: optuna.Study, signals: Mapping[str, Sequence[float]], **how: Any
) -> int | None:
    """Return the milestone (1-based) at which the pruner ends a new trial with these curves, None where it does not."""
    attrs = how.pop("attrs", {})
    trial = study.ask()
    for name, value in attrs.items():
        trial.set_user_attr(name, value)
    for k in range(len(next(iter(signals.values())))):
        report_point(trial, signals, k, **how)
        if pruner.prune(study, trial.storage.get_trial(trial._trial_id)):
            return k + 1
    return None
