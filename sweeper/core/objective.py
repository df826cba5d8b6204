"""The number by which trials are ranked, and whether a sweep measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.core.config import DataConfig
from sweeper.core.decode import nearest
from sweeper.core.errors import InputError
from sweeper.core.evaluation import HELD_OUT_METRICS, EvalConfig

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """The number by which trials are ranked."""

    metric: str = "heldout_loss"
    """A held-out score: a metric of ``eval.metrics`` or ``eval.final_metrics``, as the mean over its sets
    (``exact_match``), for one set (``exact_match/NAME``, ``lm_eval/TASK``) or for a part of one
    (``multiple_choice/NAME/SUBJECT``, ``lm_eval/TASK/SCORE``)."""
    direction: Direction | None = None
    """``minimize`` or ``maximize``; empty means what the metric implies."""

    @property
    def maximizes(self) -> bool:
        if self.direction is not None:
            return self.direction == "maximize"
        return not self.metric.split("/")[0].endswith("loss")

    @property
    def resolved_direction(self) -> Direction:
        return "maximize" if self.maximizes else "minimize"


def check_objective(objective: Objective, evaluation: EvalConfig, data: DataConfig) -> None:
    """Raise ``InputError`` where the objective is not a score that this evaluation measures on these data."""
    metric, _, rest = objective.metric.partition("/")
    named = rest.split("/")[0]
    if metric not in evaluation.all_metrics:
        raise InputError(
            f"metric {metric!r} is not measured",
            where="objective",
            got=objective.metric,
            mend="add it to eval.metrics or eval.final_metrics",
        )
    sets: Mapping[str, Any] = data.test
    if metric == "multiple_choice":
        sets = evaluation.multiple_choice
    elif metric == "lm_eval":
        sets = dict.fromkeys(evaluation.lm_eval_tasks)
    if not sets:
        raise InputError(
            "an objective needs held-out data", where="objective", got=objective.metric, mend="set data.test"
        )
    if named and named not in sets:
        raise InputError(
            f"there is no test set {named!r}", where="objective", got=objective.metric, mend=nearest(named, sets)
        )
    if metric in HELD_OUT_METRICS and rest != named:
        raise InputError("a test set has one score of a metric", where="objective", got=objective.metric)
