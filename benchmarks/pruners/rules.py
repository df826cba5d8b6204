"""The rules that are compared: ours, Optuna's and Ray's from their own packages, and two simple ones."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import Grid
from sweeper.replay.promoted import PauseCosts
from sweeper.replay.simulate import simulate

RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
Stops = tuple[int | None, ...]


@dataclass(frozen=True)
class RayTrial:
    """As much of a Ray trial as a stopping scheduler looks at."""

    trial_id: str


class RayRule(BasePruner):
    """A Ray Tune scheduler, run from its own package, asked at each report."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.trials: dict[int, RayTrial] = {}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None:
            return False
        if trial.number not in self.trials:
            self.trials[trial.number] = RayTrial(str(trial.number))
            self.scheduler.on_trial_add(_Controller(), self.trials[trial.number])
        value = trial.intermediate_values[step]
        result = {"resource": step, "objective": value}
        answer = self.scheduler.on_trial_result(_Controller(), self.trials[trial.number], result)
        return bool(answer == "STOP")


class _Controller:
    def get_live_trials(self) -> list[Any]:
        return []


def ours(spec: Any, promote: PauseCosts | None = None) -> Callable[[Grid, int, int], Stops]:
    """Return a rule that replays as a live sweep does: our order, four calibration trials, guards first.

    ``promote``: trials are paused and promoted instead, in that mode's own order and without calibration trials.
    """

    def play(grid: Grid, workers: int, seed: int) -> Stops:
        pruner = from_spec(spec, direction=grid.direction)
        return simulate(grid, pruner, workers=workers, seed=seed, promote=promote).stopped_at

    return play


def stock(make: Callable[[Grid], BasePruner]) -> Callable[[Grid, int, int], Stops]:
    """Return a rule that replays a stock pruner: trials in random order, no calibration trials, no guards."""

    def play(grid: Grid, workers: int, seed: int) -> Stops:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = make(grid)
            return simulate(grid, pruner, workers=workers, seed=seed, calibration=0, order="random").stopped_at

    return play


def halving(*, by_value: bool) -> Callable[[Grid, int, int], Stops]:
    """Return synchronous halving by thirds at 1/9 and 1/3 of the longest run, by value or at random."""

    def play(grid: Grid, workers: int, seed: int) -> Stops:
        rng = random.Random(seed)
        longest = max(trial.cost for trial in grid.trials)
        stops: list[int | None] = [None] * len(grid.trials)
        alive = list(range(len(grid.trials)))
        for rung in (math.ceil(longest / 9), math.ceil(longest / 3)):
            keys = {index: _standing(grid, index, rung) if by_value else rng.random() for index in alive}
            keep = sorted(alive, key=lambda index: (keys[index], index))[: max(1, math.ceil(len(alive) / 3))]
            for index in set(alive) - set(keep):
                stops[index] = min(rung, grid.trials[index].cost)
            alive = keep
        return tuple(stops)

    return play


def _standing(grid: Grid, index: int, rung: int) -> float:
    sign = 1.0 if grid.direction == "minimize" else -1.0
    points = [p for p in grid.trials[index].points if p.resource <= rung and "objective" in p.signals]
    values = [sign * p.signals["objective"] for p in points]
    finite = [value for value in values if math.isfinite(value)]
    return min(finite, default=math.inf)


def _longest(grid: Grid) -> int:
    return max(trial.cost for trial in grid.trials)


def _asha(grid: Grid, eta: int) -> RayRule:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    longest = _longest(grid)
    return RayRule(
        AsyncHyperBandScheduler(
            time_attr="resource",
            metric="objective",
            mode=grid.direction[:3],
            max_t=longest + 1,
            grace_period=max(1, longest // eta**2),
            reduction_factor=eta,
        )
    )


def _ray_hyperband(grid: Grid, workers: int, seed: int) -> Stops:
    from benchmarks.pruners.ray_hyperband import ray_hyperband

    return ray_hyperband(grid, workers, seed)


def _ray_median(grid: Grid) -> RayRule:
    from ray.tune.schedulers import MedianStoppingRule

    grace = max(1, _longest(grid) // 9)
    return RayRule(
        MedianStoppingRule(time_attr="resource", metric="objective", mode=grid.direction[:3], grace_period=grace)
    )


RULES: dict[str, Callable[[Grid, int, int], Stops]] = {
    **{f"calibrated, risk {risk}": ours({"calibrated": {"risk": risk}}) for risk in RISKS},
    "calibrated, risk 0.02, skip_hopeless": ours({"calibrated": {"skip_hopeless": True}}),
    **{f"calibrated, risk {risk}, promote": ours({"calibrated": {"risk": risk}}, PauseCosts()) for risk in RISKS},
    "early_dynamics": ours("early_dynamics"),
    "guards only": ours([]),
    "Optuna Median": stock(lambda grid: optuna.pruners.MedianPruner()),
    "Optuna Percentile 25": stock(lambda grid: optuna.pruners.PercentilePruner(25.0)),
    "Optuna SuccessiveHalving": stock(lambda grid: optuna.pruners.SuccessiveHalvingPruner()),
    "Optuna Hyperband": stock(lambda grid: optuna.pruners.HyperbandPruner()),
    "Optuna Wilcoxon": stock(lambda grid: optuna.pruners.WilcoxonPruner()),
    "Optuna Patient 3, Median": stock(lambda grid: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(), 3)),
    "Ray ASHA, eta 3, 3 rungs": stock(lambda grid: _asha(grid, 3)),
    "Ray ASHA, eta 2, 3 rungs": stock(lambda grid: _asha(grid, 2)),
    "Ray HyperBand": _ray_hyperband,
    "Ray MedianStopping": stock(_ray_median),
    "top third after 1/9, then again": halving(by_value=True),
    "random third after 1/9, then again": halving(by_value=False),
}
