"""``python -m benchmarks.pruners.faults``: what each pruner does with injected faults, as a table in Markdown.

Eight healthy trials have run to their end when the ninth comes with a fault. Shown is the milestone of ten at which it
is ended; a dash where it runs on. Loss and objective are the same curve, minimised.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import TrialState

from sweeper.core.measurement import Measurement
from sweeper.pruners import from_spec, report
from sweeper.pruners.compose import known_pruners

HEALTHY = [2.0, 1.6, 1.4, 1.25, 1.15, 1.1, 1.06, 1.03, 1.01, 1.0]
NEEDED = {
    "percentile": {"percentile": 25.0},
    "threshold": {"upper": 5.0},
    "patient": {"patience": 2, "around": "median"},
}


def faults() -> dict[str, tuple[list[float], str]]:
    """Return the faulty curves by name, each with what ought to happen."""
    best = [0.8 * value for value in HEALTHY]
    return {
        "NaN at 1": ([math.nan, *best[1:]], "1"),
        "NaN at 5": ([*best[:4], math.nan, *best[5:]], "5"),
        "Inf at 5": ([*best[:4], math.inf, *best[5:]], "5"),
        "explodes after a good start": ([*best[:4], 8.0, 20.0, 40.0, 40.0, 40.0, 40.0], "6"),
        "explodes at once": ([30.0, 50.0, 80.0, 90.0, 90.0, 90.0, 90.0, 90.0, 90.0, 90.0], "1 or 2"),
        "spike at 5, recovers, best in the end": ([*best[:4], 8.0, *best[5:]], "–"),
        "plateau at a bad level": ([1.9] * 10, "any"),
        "healthy, best": (best, "–"),
    }


def ended_at(spec: object, curve: Sequence[float]) -> str:
    """Return the milestone at which the pruner ends the curve, or a dash."""
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    pruner = from_spec(spec, direction="minimize")  # type: ignore[arg-type]
    for index in range(8):
        trial = _begin(study, index)
        for place, value in enumerate(HEALTHY):
            _report(trial, place, value * (1 + 0.02 * index))
        study.tell(trial, HEALTHY[-1] * (1 + 0.02 * index))
    trial = _begin(study, 8)
    for place, value in enumerate(curve):
        _report(trial, place, value)
        if pruner.prune(study, trial.storage.get_trial(trial._trial_id)):
            study.tell(trial, state=TrialState.PRUNED)
            return str(place + 1)
    return "–"


def _begin(study: optuna.Study, index: int) -> optuna.Trial:
    trial = study.ask()
    trial.set_user_attr("axes", {"learning_rate": 10.0 ** (-2 - 0.25 * index)})
    trial.set_user_attr("planned_samples", 1000)
    return trial


def _report(trial: optuna.Trial, place: int, value: float) -> None:
    measured = Measurement(
        milestone=place + 1,
        samples_seen=100 * (place + 1),
        tokens_seen=1000 * (place + 1),
        step=place + 1,
        warmup_done=True,
        train_loss=value,
        grad_norm=1.0,
        scores={},
        train_s=1.0,
        eval_s=0.0,
        peak_memory_bytes=0,
        is_last=place == 9,
    )
    report(trial, measured, value)


def main() -> int:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    cases = faults()
    print("| pruner | " + " | ".join(cases) + " |\n" + "|---" * (len(cases) + 1) + "|")
    print("| *right* | " + " | ".join(right for _, right in cases.values()) + " |")
    specs: dict[str, object] = {
        "guards": [],
        "guards, early_dynamics": "early_dynamics",
        "guards, calibrated": "calibrated",
    }
    stock = [
        name for name in known_pruners() if name not in ("non_finite", "divergence", "early_dynamics", "calibrated")
    ]
    specs |= {f"{name} alone": [{"guards": False}, {name: NEEDED.get(name, {})}] for name in stock}
    for name, spec in specs.items():
        print(f"| {name} | " + " | ".join(ended_at(spec, curve) for curve, _ in cases.values()) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
