"""The simulated clock: what every decision sees is what had been reported by then, and nothing else."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from sweeper.replay.curves import Grid, Point, RecordedTrial
from sweeper.replay.simulate import simulate

Seen = tuple[tuple[str, int], dict[str, int | str]]
"""A decision, by trial and samples, and what it saw of the other trials: the latest samples, or how they ended."""


class Witness(BasePruner):
    """Writes down what every decision sees; ends the trials it is told to end, by name and samples."""

    def __init__(self, names: Sequence[str], ends: frozenset[tuple[str, int]] = frozenset()) -> None:
        self.names, self.ends, self.seen = names, ends, list[Seen]()

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        decision = self.names[trial.number], trial.last_step or 0
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        started = {self.names[o.number]: standing(o) for o in others if o.state is not TrialState.WAITING}
        self.seen.append((decision, started))
        return decision in self.ends


def standing(trial: optuna.trial.FrozenTrial) -> int | str:
    return (trial.last_step or 0) if trial.state is TrialState.RUNNING else trial.state.name.lower()


def grid_of(curves: dict[str, Sequence[int]], seed: int = 0) -> Grid:
    """Return a grid whose trials arrive, at this seed and in random order, in the order of ``curves``."""
    place = list(range(len(curves)))
    random.Random(seed).shuffle(place)
    trials: list[RecordedTrial | None] = [None] * len(curves)
    for index, (name, resources) in zip(place, curves.items(), strict=True):
        points = tuple(Point(resource=r, signals={"objective": 1.0, "train_loss": 1.0}) for r in resources)
        trials[index] = RecordedTrial(name=name, config={"name": name}, final=1.0, points=points)
    return Grid(
        name="clock",
        direction="minimize",
        best_counts=False,
        trials=tuple(trial for trial in trials if trial is not None),
    )


def decisions(curves: dict[str, Sequence[int]], workers: int, *ends: tuple[str, int]) -> list[Seen]:
    grid = grid_of(curves)
    witness = Witness([trial.name for trial in grid.trials], frozenset(ends))
    simulate(grid, witness, workers=workers, order="random")
    return witness.seen


CURVES = {"a": (100, 200, 300), "b": (40, 80), "c": (50, 150, 160), "d": (30, 60)}
"""On two workers a ends at 300; b at 80, c then runs to 240, and d to 300. No trial is judged at its last report."""


def test_two_workers_interleave_by_time_and_each_decision_sees_what_was_reported_by_then():
    assert decisions(CURVES, 2) == [
        (("b", 40), {"a": 0}),
        (("a", 100), {"b": "complete", "c": 0}),
        (("c", 50), {"a": 100, "b": "complete"}),  # at 130
        (("a", 200), {"b": "complete", "c": 50}),
        (("c", 150), {"a": 200, "b": "complete"}),  # at 230
        (("d", 30), {"a": 200, "b": "complete", "c": "complete"}),  # at 270
    ]


def test_a_trial_that_is_ended_frees_its_worker_at_that_moment():
    assert decisions(CURVES, 2, ("b", 40), ("a", 100)) == [
        (("b", 40), {"a": 0}),
        (("c", 50), {"a": 0, "b": "pruned"}),  # at 90
        (("a", 100), {"b": "pruned", "c": 50}),
        (("d", 30), {"a": "pruned", "b": "pruned", "c": 50}),  # at 130
        (("c", 150), {"a": "pruned", "b": "pruned", "d": "complete"}),  # at 190
    ]


def test_one_worker_takes_one_trial_after_the_other():
    order = [decision for decision, _ in decisions(CURVES, 1)]
    assert order == [(name, resource) for name, resources in CURVES.items() for resource in resources[:-1]]


def test_what_falls_into_the_same_moment_comes_in_the_order_in_which_it_began():
    names = "fbdace"
    order = [decision for decision, _ in decisions(dict.fromkeys(names, (10, 20, 30)), len(names))]
    assert order == [(name, resource) for resource in (10, 20) for name in names]


@pytest.mark.parametrize("workers", [2, 4])
def test_a_clock_in_larger_units_changes_nothing(workers):
    """Durations are proportional to the resource: a thousand times the resource is the same order of events."""
    larger = {name: [1000 * r for r in resources] for name, resources in CURVES.items()}
    found = [(name, samples // 1000) for (name, samples), _ in decisions(larger, workers)]
    assert found == [decision for decision, _ in decisions(CURVES, workers)]


def starts(curves: dict[str, Sequence[int]], workers: int) -> dict[str, int]:
    """When each trial begins where each takes, in order of arrival, the worker that is free first."""
    free, found = [0] * workers, {}
    for name, resources in curves.items():
        found[name] = heapq.heappop(free)
        heapq.heappush(free, found[name] + resources[-1])
    return found


@settings(max_examples=40, deadline=None)
@given(
    gaps=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=5), min_size=1, max_size=7),
    workers=st.integers(1, 8),
)
def test_decisions_follow_the_time_that_the_resources_say(gaps, workers):
    curves = {str(place): [sum(each[: k + 1]) for k in range(len(each))] for place, each in enumerate(gaps)}
    begins = starts(curves, workers)
    expected = [(begins[name] + r, name, r) for name, resources in curves.items() for r in resources[:-1]]
    found = [(begins[name] + r, name, r) for (name, r), _ in decisions(curves, workers)]
    assert sorted(found) == sorted(expected)
    assert [time for time, _, _ in found] == sorted(time for time, _, _ in expected)
