"""Made-up sweeps for tests of the report, small enough to compute every number by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from record_cases import sweep_info

from sweeper.core.foretell import evidence
from sweeper.core.record import TrialRow, summarise
from sweeper.core.space import cell_name
from sweeper.core.verdict import prune
from sweeper.pruners.evidence import finished
from sweeper.pruners.history import Curve, History
from sweeper.report.record import ReportedTrial, Standing, SweepRecord

MILESTONES = (64, 128, 192, 256)


def trial(
    axes: Mapping[str, Any],
    objective: float | None,
    state: str = "complete",
    *,
    samples: int = 256,
    rule: str = "",
    by_guard: bool = False,
    curves: Mapping[str, Sequence[float]] | None = None,
    ranks: int = 2,
    warmup_end: float = 0.0,
    **row: Any,
) -> ReportedTrial:
    """Return a cell whose objective fell to ``objective`` in equal steps, unless ``curves`` say otherwise."""
    name = row.pop("name", None) or cell_name(axes) or "only"
    marks = tuple(each for each in MILESTONES if each <= samples)
    if curves is None:
        curves = (
            {} if objective is None else {"objective": [objective + len(marks) - k for k in range(1, len(marks) + 1)]}
        )
    reason = row.pop("reason", f"{name} is behind" if rule else "")
    verdict = prune(rule, reason, samples, predicted_final=(0.5, 0.75, 1.0)) if rule else None
    return ReportedTrial(
        row=TrialRow(
            fingerprint=f"f-{name}-{sorted(axes.items())}",
            name=name,
            axes=dict(axes),
            state=state,
            objective=objective,
            samples_seen=samples,
            planned_samples=256,
            train_s=samples / 64,
            eval_s=1.0 if samples else 0.0,
            rule=rule,
            reason=reason,
            **row,
        ),
        past=History(
            curves={key: Curve(samples=marks, values=tuple(values)) for key, values in curves.items()},
            samples_seen=marks[-1] if marks else 0,
            marks=marks,
            warmup_end=warmup_end,
        ),
        verdict=verdict,
        by_guard=by_guard,
        ranks=ranks,
    )


def sweep(
    trials: Sequence[ReportedTrial],
    *,
    direction: Any = "minimize",
    objective: str = "heldout_loss",
    standing: Standing = "finished",
    **more: Any,
) -> SweepRecord:
    base = sweep_info(Path("/nowhere"))
    fields = {key: getattr(base, key) for key in base.__dataclass_fields__}
    info = type(base)(**{**fields, "direction": direction, "objective": objective})
    sign = -1.0 if direction == "minimize" else 1.0
    done = [t for t in trials if t.row.state == "complete" and t.row.objective is not None]
    known = [
        finished(t.past, MILESTONES[:-1], goodness=sign * t.row.objective, group=t.row.axes.get("batch_size"))
        for t in done
        if t.row.objective is not None
    ]
    signals = evidence(known, MILESTONES[:-1])
    summary = summarise(info, [t.row for t in trials], elapsed_s=12.0, signals=signals)
    return SweepRecord(
        name=more.pop("name", "made-up"),
        standing=standing,
        summary=summary,
        trials=tuple(trials),
        milestones=MILESTONES,
        **more,
    )


def small_grid() -> SweepRecord:
    """Two batch sizes by three rates: four cells end at 1, 2, 3 and 4, one is pruned, one ended by a guard."""
    return sweep(
        [
            trial({"batch_size": 32, "learning_rate": 1e-4}, 1.0),
            trial({"batch_size": 32, "learning_rate": 1e-3}, 2.0),
            trial(
                {"batch_size": 32, "learning_rate": 1.0}, 9.0, "pruned", samples=64, rule="divergence", by_guard=True
            ),
            trial({"batch_size": 64, "learning_rate": 1e-4}, 3.0),
            trial({"batch_size": 64, "learning_rate": 1e-3}, 4.0),
            trial({"batch_size": 64, "learning_rate": 1.0}, 5.0, "pruned", samples=128, rule="calibrated"),
        ]
    )
