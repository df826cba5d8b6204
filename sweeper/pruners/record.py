"""How a measurement is kept on an Optuna trial, the one place that knows.

Two places on the trial, so that any storage and any stock pruner can read along:

- the intermediate values hold the objective, at ``step = samples_seen``;
- one user attribute per milestone, ``milestone:K``, holds every signal of that measurement as a JSON-safe dict.

Nothing else is needed: ``sweeper.pruners.history`` reads the two back as curves on the samples axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import optuna

from sweeper.core.decode import encode
from sweeper.core.measurement import Measurement, StepPoint

MILESTONE_PREFIX: Final = "milestone:"
CALIBRATION_ATTR: Final = "calibration"
"""User attribute: this trial runs to its end whatever the pruners say; only guards may end it."""
REVIVED_ATTR: Final = "revived"
"""User attribute: the user brought this trial back after a prune; as above, only guards may end it."""
PLANNED_SAMPLES_ATTR: Final = "planned_samples"
"""User attribute: the samples at which the trial ends by itself."""
AXES_ATTR: Final = "axes"
"""User attribute: the cell's axis values by name."""

REPLICATE_ATTR: Final = "replicate_of"
"""User attribute: this trial repeats a leader to confirm it, and is no cell of the grid."""

TURN: Final = "turn"
"""Place of an entry in the order in which a sweep's reports, verdicts, starts and ends came, from 1."""
SUSPENDED_PREFIX: Final = "suspended:"
"""Study attribute, by rule: why prunes of this rule are believed no longer."""


def milestone_key(milestone: int) -> str:
    """Return the user attribute that holds the measurement of this milestone."""
    return f"{MILESTONE_PREFIX}{milestone}"


def milestone_entry(measurement: Measurement) -> dict[str, Any]:
    """Return the measurement without its per-step series; non-finite numbers are strings.

    ``first_loss`` is the loss of the window's first optimizer step: for the first milestone that is the untrained
    model's own loss, the reference from which a rise is judged.
    """
    entry: dict[str, Any] = {
        name: getattr(measurement, name)
        for name in measurement.__dataclass_fields__
        if name not in ("series", "scores", "extra")
    }
    entry["scores"], entry["extra"] = dict(measurement.scores), dict(measurement.extra)
    if measurement.series:
        entry["first_loss"] = measurement.series[0].loss
    plain: dict[str, Any] = encode(entry)
    return plain


def measurement_of(entry: Mapping[str, Any]) -> Measurement:
    """Return the measurement that the entry was made of; of its series only the first loss is kept there."""
    plain = {key: value for key, value in entry.items() if key not in (TURN, "first_loss")}
    if "first_loss" in entry:
        first = StepPoint(
            step=1,
            samples_seen=0,
            tokens_seen=0,
            loss=float(entry["first_loss"]),
            grad_norm=0.0,
            learning_rate=0.0,
            seconds=0.0,
        )
        plain["series"] = [first]
    return Measurement.from_json(plain)


def report(trial: optuna.Trial, measurement: Measurement, objective: float | None, *, turn: int | None = None) -> None:
    """Write one measurement to its trial; writing the same milestone again changes nothing.

    Args:
        trial: a running trial.
        measurement: what was measured.
        objective: the number by which trials are ranked, or None where this milestone was not evaluated. NaN and
            infinities are written as they are: a guard must be able to see them.
        turn: the report's place in the sweep's order of events, where that is kept.
    """
    stored = trial.storage.get_trial(trial._trial_id)
    if objective is not None and measurement.samples_seen not in stored.intermediate_values:
        trial.report(objective, measurement.samples_seen)
    key = milestone_key(measurement.milestone)
    if key not in stored.user_attrs:
        entry = milestone_entry(measurement)
        trial.set_user_attr(key, entry if turn is None else {**entry, TURN: turn})


def suspended(study: optuna.Study, rule: str) -> str | None:
    """Return why this rule's prunes are no longer believed in this sweep, or None where they are."""
    reason = study._storage.get_study_user_attrs(study._study_id).get(SUSPENDED_PREFIX + rule)
    return None if reason is None else str(reason)


def is_calibration(trial: optuna.trial.FrozenTrial) -> bool:
    """Return whether this trial must run to its end; False in a study that never says."""
    return bool(trial.user_attrs.get(CALIBRATION_ATTR, False) or trial.user_attrs.get(REVIVED_ATTR, False))


def replicate_of(trial: optuna.trial.FrozenTrial) -> str:
    """Return the fingerprint of the cell that this trial repeats with a fresh seed; empty for a trial of the grid."""
    return str(trial.user_attrs.get(REPLICATE_ATTR, ""))


def planned_samples(trial: optuna.trial.FrozenTrial) -> int | None:
    """Return where the trial ends by itself, or None where the study does not say, by leaving it out or by 0."""
    return int(trial.user_attrs.get(PLANNED_SAMPLES_ATTR, 0)) or None


def axes(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """Return the cell's axis values; a plain Optuna trial's parameters where the study does not say."""
    return dict(trial.user_attrs.get(AXES_ATTR, trial.params))
