"""``python -m benchmarks.pruners.faults``: what each pruner does with injected faults, as a table in Markdown.

Eight healthy trials have run to their end when the ninth comes with a fault. Shown is the milestone of ten at which it
is ended; a dash where it runs on; bold where that is wrong. Loss and objective are the same curve, minimised.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import TrialState

from sweeper.core.measurement import Measurement
from sweeper.pruners import from_spec, report
from sweeper.pruners.compose import OURS, STOCK

HEALTHY = [2.0, 1.6, 1.4, 1.25, 1.15, 1.1, 1.06, 1.03, 1.01, 1.0]
NEVER = "–"
ANY = frozenset({NEVER, *map(str, range(1, 11))})
"""A trial that is merely bad: to end it saves, to let it run loses nothing."""
NEEDED = {
    "percentile": {"percentile": 25.0},
    "threshold": {"upper": 5.0},
    "patient": {"patience": 2, "around": "median"},
}


def faults() -> dict[str, tuple[list[float], frozenset[str]]]:
    """Return the faulty curves by name, each with the milestones at which it may rightly be ended."""
    best = [0.8 * value for value in HEALTHY]
    at_once = frozenset({"1", "2"})
    return {
        "NaN at 1": ([math.nan, *best[1:]], frozenset({"1"})),
        "NaN at 5": ([*best[:4], math.nan, *best[5:]], frozenset({"5"})),
        "NaN at the end": ([*best[:9], math.nan], frozenset({"10"})),
        "Inf at 5": ([*best[:4], math.inf, *best[5:]], frozenset({"5"})),
        "explodes after a good start": ([*best[:4], 8.0, 20.0, 40.0, 40.0, 40.0, 40.0], frozenset({"5", "6"})),
        "explodes at once": ([30.0, 50.0, 80.0, 90.0, 90.0, 90.0, 90.0, 90.0, 90.0, 90.0], at_once),
        "spike at 5, recovers, best in the end": ([*best[:4], 8.0, *best[5:]], frozenset({NEVER})),
        "plateau at a bad level": ([1.9] * 10, ANY),
        "plateau after a good start, bad in the end": ([*best[:2], *[1.28] * 8], ANY),
        "plateau at the best level": ([*best[:4], *[0.79] * 6], frozenset({NEVER})),
        "healthy, best": (best, frozenset({NEVER})),
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
    return NEVER


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


def table() -> dict[str, dict[str, str]]:
    """Return where each pruner ends each fault."""
    specs: dict[str, object] = {"guards": []}
    specs |= {f"guards, {name}": name for name in OURS}
    specs |= {f"{name} alone": [{"guards": False}, {name: NEEDED.get(name, {})}] for name in STOCK}
    return {
        name: {fault: ended_at(spec, curve) for fault, (curve, _) in faults().items()} for name, spec in specs.items()
    }


def wrong(row: Mapping[str, str]) -> list[str]:
    """Return the faults that a pruner gets wrong."""
    return [fault for fault, (_, right) in faults().items() if row[fault] not in right]


def main() -> int:
    """Print the table, wrong answers in bold; 1 where one of ours is wrong."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    cases, found = faults(), table()
    print("| pruner | " + " | ".join(cases) + " | wrong |\n" + "|---" * (len(cases) + 2) + "|")
    rights = ("any" if right == ANY else " or ".join(sorted(right)) for _, right in cases.values())
    print("| *right* | " + " | ".join(rights) + " | |")
    for name, row in found.items():
        missed = wrong(row)
        cells = (f"**{ended}**" if fault in missed else ended for fault, ended in row.items())
        print(f"| {name} | " + " | ".join(cells) + f" | {len(missed)} |")
    return int(any(wrong(row) for name, row in found.items() if name.startswith("guards")))


if __name__ == "__main__":
    raise SystemExit(main())
