"""Stock Optuna pruners on the samples axis.

Stock pruners look their peers up at exactly the trial's own step. With batch size swept, two trials hardly ever
report at the same samples, so the bare pruner finds no peers and prunes nothing. ``SampleAligned`` shows it a study in
which every peer's curve is interpolated at the judged trial's own sample counts.
"""

from __future__ import annotations

import math
import statistics
import warnings
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.pruners.base import VerdictPruner, minimizes
from sweeper.pruners.history import OBJECTIVE, Curve, History, remembered
from sweeper.pruners.record import is_calibration

_RUNG_PREFIX = "completed_rung_"
"""How Optuna 5 names the system attributes in which SuccessiveHalving keeps a trial's value at each rung."""


class SampleAligned(VerdictPruner):
    """Wrap any Optuna pruner so that it compares trials at equal samples seen; steps are sample counts.

    The judged trial is shown as it is. A peer is shown at the judged trial's sample counts as far as its own curve
    reaches, nothing extrapolated, and at its own later ones; values beside a non-finite point are left out, so that a
    peer that blew up does not move a percentile. Values that SuccessiveHalving and Hyperband kept at a rung are shown
    at the judged trial's samples too, where the peer got there. Where all trials report at the same samples this
    equals the bare pruner.

    A latest objective that is NaN or infinite ends the trial, whatever the wrapped pruner says, except NopPruner: stock
    pruners disagree on it. A calibration trial is shown to the wrapped pruner, which may keep books on it, but not
    ended.
    """

    def __init__(self, pruner: BasePruner, *, rule: str | None = None) -> None:
        """Keep the pruner; ``rule`` names it in verdicts and defaults to its class name."""
        self.pruner = pruner
        self.rule = rule or type(pruner).__name__  # type: ignore[misc]  # one class serves many rules

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Ask the wrapped pruner about the trial among its aligned peers."""
        past = remembered(study, trial)
        latest = past.latest(OBJECTIVE)
        if latest is None:
            return proceed(self.rule, "no objective at this milestone", past.samples_seen)
        if isinstance(self.pruner, NopPruner):
            return proceed(self.rule, "asked to end nothing", past.samples_seen, signals={OBJECTIVE: latest})
        if not math.isfinite(latest):
            reason = f"objective is {latest} at {past.samples_seen} samples"
            return prune(self.rule, reason, past.samples_seen, signals={OBJECTIVE: latest})
        aligned = _AlignedStudy(study, trial, past)
        with warnings.catch_warnings():
            # Wilcoxon warns at each decision where the best trial's curve is shorter; the answer does not change.
            warnings.simplefilter("ignore")
            ends = self.pruner.prune(aligned, trial)
        peers = _statistics(aligned.peers(), past.samples_seen, minimizes(study))
        told = ", ".join(f"{name} {value:.4g}" for name, value in peers.items())
        reason = f"objective {latest:.4g} at {past.samples_seen} samples; peers there: {told}"
        if ends and is_calibration(trial):
            return proceed(self.rule, f"a calibration trial runs to its end; {reason}", past.samples_seen)
        speak = prune if ends else proceed
        return speak(self.rule, f"{self.rule}: {reason}", past.samples_seen, signals={OBJECTIVE: latest}, peers=peers)


def _statistics(shown: Iterable[FrozenTrial], samples: int, minimize: bool) -> dict[str, float]:
    found = (peer.intermediate_values.get(samples) for peer in shown)
    values = sorted(value for value in found if value is not None)
    if not values:
        return {"num_peers": 0.0}
    best = values[0] if minimize else values[-1]
    return {"num_peers": float(len(values)), "median": statistics.median(values), "best": best}


class _AlignedValues(Mapping[int, float]):
    """A peer's intermediate values as if it had reported at the sample counts ``own``, worked out when asked for.

    Its reports after the latest of ``own`` stay: pruners read its length from them (the automatic resources of
    SuccessiveHalving and Hyperband) and its mean (Wilcoxon). Values beside a non-finite point are left out.
    """

    def __init__(self, curve: Curve, own: tuple[int, ...]) -> None:
        self._curve, self._own, self._latest = curve, own, own[-1]

    def __getitem__(self, samples: int) -> float:
        value = self._curve.value_at(samples) if self._offers(samples) else None
        if value is None or not math.isfinite(value):
            raise KeyError(samples)
        return value

    def __iter__(self) -> Iterator[int]:
        later = [samples for samples in self._curve.samples if samples > self._latest]
        return (samples for samples in (*self._own, *later) if samples in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _offers(self, samples: int) -> bool:
        among = self._own if samples <= self._latest else self._curve.samples
        place = bisect_left(among, samples)
        return place < len(among) and among[place] == samples


def _aligned(peer: FrozenTrial, theirs: History, own: tuple[int, ...]) -> FrozenTrial:
    """Return the peer as if it had reported at the sample counts ``own``."""
    curve = theirs.curve(OBJECTIVE)
    kept_books = any(key.startswith(_RUNG_PREFIX) for key in peer.system_attrs)
    if not kept_books and curve.samples[: len(own)] == own and all(map(math.isfinite, curve.values)):
        return peer  # It reports where the judged trial does: nothing to align.
    values = _AlignedValues(curve, own)
    shown = _copy(peer)
    shown.intermediate_values = cast(dict[int, float], values)
    if kept_books and own[-1] in values:
        here = values[own[-1]]
        shown.system_attrs = {
            key: here if key.startswith(_RUNG_PREFIX) else kept for key, kept in peer.system_attrs.items()
        }
    return shown


def _copy(trial: FrozenTrial) -> FrozenTrial:
    """Return a shallow copy that may be changed without touching the storage's trial."""
    shown = object.__new__(type(trial))
    shown.__dict__.update(trial.__dict__)
    return shown


class _AlignedStorage:
    """The study's storage with trials shown aligned; everything else, writing too, goes to the real one.

    The storage is what has to be replaced: Hyperband builds a study of its own from it.
    """

    def __init__(self, study: optuna.Study, trial: FrozenTrial, past: History) -> None:
        self._study = study
        self._real = study._storage
        self._trial = trial
        self._own = past.curve(OBJECTIVE).samples
        self.shown: dict[int, FrozenTrial] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = self._real.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        # Successive halving would let a trial that the machine ended compete at the rungs it had reached.
        return [self._show(trial) for trial in found if trial.state is not TrialState.FAIL]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._show(self._real.get_trial(trial_id))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._show(self._real.get_best_trial(study_id))

    def _show(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.number == self._trial.number:
            return trial
        if trial.number not in self.shown:
            theirs = remembered(self._study, trial)
            self.shown[trial.number] = _aligned(trial, theirs, self._own)
        return self.shown[trial.number]


class _AlignedStudy(optuna.Study):
    """A view of a study that reads through an ``_AlignedStorage``."""

    def __init__(self, study: optuna.Study, trial: FrozenTrial, past: History) -> None:
        # Not Study.__init__: it would look the study up by name again, a database query for each decision.
        self.__dict__.update(study.__dict__)
        self._view = _AlignedStorage(study, trial, past)
        self._storage = self._view  # type: ignore[assignment]  # a storage by its behaviour

    def peers(self) -> list[FrozenTrial]:
        """Return the peers that were looked at, as they were shown."""
        return list(self._view.shown.values())
