"""Carries out pauses: a trial's state is saved, and its gang, still warm, goes to the next trial.

Tune sees a paused trial as one that was stopped, and its second stretch as another one: nothing of a sweep is kept in
Tune, so nothing can go wrong there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import ray
from ray.exceptions import RayError
from ray.tune.experiment import Trial

from sweeper.adapters.ray.states import StateStore
from sweeper.adapters.ray.trainable import Saved
from sweeper.core.measurement import Measurement
from sweeper.core.pause import Place, Room, place_state, save_seconds
from sweeper.core.record import TrialInfo

SAVE_LIMIT_S: Final = 600.0
"""Longest wait for a state that is needed now."""


class Promotions(Protocol):
    """Chooses who goes on."""

    def goes_on(self, trial: TrialInfo, samples_seen: int) -> bool:
        """Return whether a trial that was just judged keeps its gang; where not, it is to be paused now."""
        ...

    def paused(self, trial: TrialInfo) -> None:
        """A trial has given its gang away."""
        ...

    def ended(self, trial: TrialInfo) -> None:
        """A trial that was handed out has ended."""
        ...

    def promise(self) -> list[str]:
        """Return the fingerprints of the paused trials, the most promising one first."""
        ...

    @property
    def unended(self) -> frozenset[str]:
        """The fingerprints of all trials that run or rest and may be paused."""
        ...


@dataclass(frozen=True, slots=True)
class _Write:
    """A state that is being written."""

    saved: ray.ObjectRef
    place: Place


class Pausing:
    """Pauses trials and knows their states. Its methods are called in Tune's own loop."""

    def __init__(
        self,
        promotions: Promotions,
        store: StateStore,
        notice: Callable[[str], None],
        forget: Callable[[str], None] = lambda fingerprint: None,
    ) -> None:
        """Keep what is needed; ``forget`` deletes the other checkpoints of a trial that rests."""
        self._promotions = promotions
        self._store = store
        self._notice = notice
        self._forget = forget
        self._writes: dict[str, _Write] = {}
        self._past: dict[Place, list[tuple[int, float]]] = {place: [] for place in Place}
        self._running: dict[str, bool] = {}
        """Trials on gangs, and whether each has reported since it was taken up."""
        self._paused: set[str] = set()
        """Tune's own ids of stretches that ended in a pause."""
        self._failures: Counter[str] = Counter()
        """Of each trial, in the stretches before its latest one."""
        self._bounded: set[str] = set()
        """Tune's own ids of stretches that were told how many failures are left to them."""

    def begins(self, trial: TrialInfo) -> str | None:
        """A gang takes up a trial; return the folder with its state, None where it has none."""
        self._settle(trial.fingerprint)
        self._running[trial.fingerprint] = False
        folder = self._store.folder(trial.fingerprint)
        return None if folder is None else str(folder)

    def bound(self, stretch: Trial, trial: TrialInfo) -> None:
        """Leave a stretch what is left of its trial's failures: Tune counts those of each stretch by itself."""
        if stretch.trial_id not in self._bounded:
            self._bounded.add(stretch.trial_id)
            stretch.max_failures -= self._failures[trial.fingerprint]

    def pauses(
        self, stretch: Trial, trial: TrialInfo, measurement: Measurement, state_bytes: int, *, is_ending: bool
    ) -> bool:
        """A trial was judged and may go on; return whether its gang is to be taken from it, its state being saved.

        Args:
            stretch: as Tune knows it.
            trial: which one.
            measurement: the latest one.
            state_bytes: what its state takes, at most.
            is_ending: the run ends here; the trial is left as it is, for the next one to go on.
        """
        key = trial.fingerprint
        self._look()
        self._running[key] = True
        if key not in self._promotions.unended:
            return False
        if not is_ending and self._promotions.goes_on(trial, measurement.samples_seen):
            return False
        self._save(stretch, trial, measurement.train_s + measurement.eval_s, state_bytes, is_ending=is_ending)
        if is_ending:
            for each in list(self._writes):  # their actors end with the run
                self._settle(each)
        else:
            self._promotions.paused(trial)
            del self._running[key]
        self._paused.add(stretch.trial_id)
        self._failures[key] += stretch.num_failures
        return True

    def begins_again(self, trial: TrialInfo) -> None:
        """A trial is tried again after its gang broke: from its state, if that is still there."""
        self._running[trial.fingerprint] = False

    def has_paused(self, stretch: Trial) -> bool:
        """Return whether this stretch of a trial ended in a pause."""
        return stretch.trial_id in self._paused

    def ended(self, trial: TrialInfo) -> None:
        """A trial has ended, by whatever it was."""
        self._running.pop(trial.fingerprint, None)
        self._promotions.ended(trial)
        self._store.drop(trial.fingerprint)

    def close(self) -> None:
        """No trial runs any more."""
        self._store.retain(self._promotions.unended)
        self._store.close()

    def _save(self, stretch: Trial, trial: TrialInfo, trained_s: float, state_bytes: int, *, is_ending: bool) -> None:
        key, promise = trial.fingerprint, self._promotions.promise()
        # What is being written counts until it is there, though its user may have ended the trial meanwhile.
        self._store.retain(self._promotions.unended | self._writes.keys())
        worse = promise[promise.index(key) + 1 :] if key in promise else []
        movable = [each for each in reversed(worse) if each in self._store.kept and each not in self._writes]
        budgets = self._store.budgets()
        seconds = {place: save_seconds(state_bytes, place, self._past[place]) for place in budgets}
        placement = place_state(
            state_bytes,
            trained_s=trained_s,
            rooms={p: Room(budget_bytes=budgets[p], save_s=seconds[p], restore_s=seconds[p]) for p in budgets},
            kept=self._store.kept,
            # The state from which a trial went on is worth nothing once it has got further.
            spare={each for each, has_reported in self._running.items() if has_reported and each in self._store.kept},
            less_promising=movable,
        )
        for victim in placement.evicted:
            self._store.drop(victim)
        if placement.place is Place.NOWHERE:
            if not is_ending:  # else an older one is better than none
                self._store.drop(key)
                self._forget(key)
            self._notice(f"{trial.name}: its state is not kept: {placement.reason}")
            return
        folder = self._store.begin(key, placement.place, state_bytes)
        saved = stretch.temporary_state.ray_actor.pause.remote(str(folder))
        self._writes[key] = _Write(saved, placement.place)

    def _look(self) -> None:
        """Take note of the states that are written by now."""
        for key, write in list(self._writes.items()):
            if ray.wait([write.saved], timeout=0)[0]:
                self._settle(key)

    def _settle(self, key: str) -> None:
        """Wait for a trial's state, if it is being written."""
        write = self._writes.pop(key, None)
        if write is None:
            return
        try:
            saved: Saved = ray.get(write.saved, timeout=SAVE_LIMIT_S)
        except RayError as error:
            self._notice(f"{key}: its state was not written: {str(error).strip().splitlines()[-1]}")
            self._store.drop(key)
            return
        if not saved.is_whole:
            self._notice(f"{key}: its state could not be written: it is trained again when it is promoted")
            self._store.drop(key)
            return
        self._past[write.place].append((saved.num_bytes, saved.seconds))
        self._store.finish(key, saved.num_bytes)
        self._forget(key)
