"""What is measured when, and which objectives can be measured at all."""

from __future__ import annotations

import pytest

from sweeper.core.config import DataConfig, ModelConfig
from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from sweeper.core.objective import Objective
from sweeper.core.space import SearchSpace


@pytest.mark.parametrize(
    ("before", "passed", "is_last", "is_measured"),
    [
        (0, 1, False, False),
        (1, 2, False, True),
        (2, 3, False, False),
        (0, 4, False, True),
        (2, 5, False, False),
        (4, 5, True, True),
    ],
)
def test_final_metrics_are_measured_at_the_end_and_where_a_chosen_milestone_is_passed(
    before: int, passed: int, is_last: bool, is_measured: bool
) -> None:
    one = EvalConfig(milestones=5, final_metrics=("answer_match",), final_metrics_at=(2,))
    found = one.metrics_between(before, passed, is_last=is_last)
    assert found == (("heldout_loss", "answer_match") if is_measured else ("heldout_loss",))


SETTINGS = {
    "final_metrics": ("answer_match", "multiple_choice", "lm_eval"),
    "multiple_choice": {"mmlu": "mmlu.jsonl"},
    "lm_eval_tasks": ("arc",),
}


def space(metric: str) -> SearchSpace:
    return SearchSpace(
        sweep="s",
        model=ModelConfig(path="m"),
        data=DataConfig(train=("a",), test={"old": "b"}),
        grid={"learning_rate": (1e-3,)},
        eval=EvalConfig(**SETTINGS),
        objective=Objective(metric=metric),
    )


@pytest.mark.parametrize(
    ("metric", "maximizes"),
    [
        ("heldout_loss/old", False),
        ("answer_match/old", True),
        ("multiple_choice/mmlu", True),
        ("multiple_choice/mmlu/abstract algebra", True),
        ("lm_eval/arc/acc", True),
        ("lm_eval", True),
    ],
)
def test_an_objective_may_be_a_final_metric_or_a_part_of_one(metric: str, maximizes: bool) -> None:
    assert space(metric).objective.maximizes == maximizes


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("exact_match", "'exact_match' is not measured, got 'exact_match' .add it to eval.metrics or eval.final"),
        ("multiple_choice/old", "there is no test set 'old'"),
        ("lm_eval/ark", "there is no test set 'ark', got 'lm_eval/ark' .did you mean 'arc'"),
        ("answer_match/old/maths", "a test set has one score of a metric"),
    ],
)
def test_an_objective_that_is_never_measured_is_refused(metric: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        space(metric)
