"""The learning rate of an export at every step, by transformers' own schedules, next to that of the sweep."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import pytest
import torch
from transformers import get_scheduler

sys.path.insert(0, str(Path(__file__).parent))

from recipe_cases import recipe

from sweeper.core.errors import InputError
from sweeper.export.recipe import Recipe
from sweeper.export.schedules import transformers_schedule
from trials.schedule import learning_rate

PEAK = 1e-3


def rates(found: Recipe) -> list[float]:
    """Return what transformers' schedule gives at every step."""
    schedule = transformers_schedule(found)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    with warnings.catch_warnings():
        # It says that it takes the steps it is told instead of working them out.
        warnings.filterwarnings("ignore", message="Both num_training_steps and num_stable_steps")
        scheduler = get_scheduler(
            schedule.name,
            optimizer,
            num_warmup_steps=schedule.warmup_steps,
            num_training_steps=found.numbers.total_steps,
            scheduler_specific_kwargs=dict(schedule.options),
        )
    given = []
    for _ in range(found.numbers.total_steps):
        given.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return given


def wanted(found: Recipe) -> list[float]:
    numbers = found.numbers
    return [
        learning_rate(
            found.train.schedule, PEAK, step=step, total_steps=numbers.total_steps, warmup_steps=numbers.warmup_steps
        )
        for step in range(numbers.total_steps)
    ]


@pytest.mark.parametrize(
    ("schedule", "warmup"),
    [("constant", 0), ("linear", 0), ("cosine", 0), ("wsd", 0), ("constant", 1), ("wsd", 1)],
)
def test_without_warmup_every_rate_is_the_sweeps(schedule: str, warmup: int) -> None:
    found = recipe({"train.schedule": schedule, "train.warmup_steps": warmup})
    assert rates(found) == pytest.approx(wanted(found), rel=1e-12)
    assert not transformers_schedule(found).note


@pytest.mark.parametrize(("schedule", "warmup"), [("constant", 2), ("constant", 13), ("wsd", 4), ("wsd", 13)])
def test_with_warmup_a_held_schedule_has_every_rate_of_the_sweeps(schedule: str, warmup: int) -> None:
    found = recipe({"train.schedule": schedule, "train.warmup_steps": warmup})
    assert rates(found) == pytest.approx(wanted(found), rel=1e-12)
    assert not transformers_schedule(found).note


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_falling_schedule_with_warmup_differs_by_what_its_note_says(schedule: str) -> None:
    found = recipe({"train.schedule": schedule, "train.warmup_steps": 10})
    given, ours = rates(found), wanted(found)
    assert [high - low for low, high in zip(given[:10], ours[:10], strict=True)] == pytest.approx([PEAK / 10] * 10)
    assert given[10:] == pytest.approx(ours[10:], rel=1e-12)
    assert "lies 1e-4 lower" in transformers_schedule(found).note


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_single_step_of_warmup_is_left_out_and_said_so(schedule: str) -> None:
    found = recipe({"train.schedule": schedule, "train.warmup_steps": 1})
    assert rates(found) == pytest.approx(wanted(found), abs=PEAK / 20)
    assert "falls over 40 steps, in the sweep over 39" in transformers_schedule(found).note


def test_a_decay_below_the_floor_of_the_warmup_is_cut_short_and_said_so() -> None:
    found = recipe({"train.schedule": "wsd", "train.warmup_steps": 3})
    given, ours = rates(found), wanted(found)
    assert given == pytest.approx([max(rate, PEAK / 3) for rate in ours], rel=1e-12)
    assert "fell to 1/4" in transformers_schedule(found).note


def test_a_warmup_that_reaches_into_the_decay_is_refused() -> None:
    with pytest.raises(InputError, match="reaches into the decay"):
        transformers_schedule(recipe({"train.schedule": "wsd", "train.warmup_steps": 38}))


def test_the_share_of_the_decay_is_that_of_training() -> None:
    from sweeper.export.schedules import WSD_DECAY_SHARE
    from trials import schedule

    assert math.isclose(WSD_DECAY_SHARE, schedule.WSD_DECAY_SHARE)
