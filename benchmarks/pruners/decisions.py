"""``python -m benchmarks.pruners.decisions``: how long a calibrated decision takes, as a table in Markdown.

A study of finished trials with 50 milestones each; one more trial is judged at each of its first milestones. The first
decision also reads every finished trial's record, as the first one after a restart does, so it is the worst.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import optuna

from sweeper.pruners import CalibratedPruner
from sweeper.pruners.record import AXES_ATTR

TRIALS = (100, 2000)
MILESTONES = 50
SAMPLES_PER_MILESTONE = 100
DECISIONS = 20


def curve(cell: float) -> list[float]:
    """Return a curve over all milestones: a bowl over one axis, best at 0.5, reached along 1/k."""
    return [1.0 + 4 * (cell - 0.5) ** 2 + 0.5 / k for k in range(1, MILESTONES + 1)]


def finished(count: int) -> optuna.Study:
    """Return a study of ``count`` finished trials at random cells, their values with noise."""
    rng = np.random.default_rng(1)
    study = optuna.create_study(direction="minimize")
    for _ in range(count):
        cell = float(rng.uniform())
        noisy = np.add(curve(cell), rng.normal(0, 0.01, MILESTONES)).tolist()
        values = {SAMPLES_PER_MILESTONE * k: value for k, value in enumerate(noisy, 1)}
        done = optuna.trial.create_trial(
            value=noisy[-1], intermediate_values=values, user_attrs={AXES_ATTR: {"x": cell}}
        )
        study.add_trial(done)
    return study


def decision_times_ms(study: optuna.Study) -> list[float]:
    """Return how long the pruner took at each report of one more trial, in milliseconds, in order."""
    trial = study.ask()
    trial.set_user_attr(AXES_ATTR, {"x": 0.55})
    pruner, times_ms = CalibratedPruner(), []
    for k, value in enumerate(curve(0.55)[:DECISIONS], 1):
        trial.report(value, SAMPLES_PER_MILESTONE * k)
        frozen = trial.storage.get_trial(trial._trial_id)
        began = time.perf_counter()
        pruner.verdict(study, frozen)
        times_ms.append((time.perf_counter() - began) * 1e3)
    return times_ms


def main() -> int:
    """Print one row per size of the study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"| finished trials | median ms of {DECISIONS} decisions | worst ms |")
    print("|---|---|---|")
    for count in TRIALS:
        times_ms = decision_times_ms(finished(count))
        print(f"| {count} | {statistics.median(times_ms):.1f} | {max(times_ms):.1f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
