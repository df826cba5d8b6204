"""Ends trials, or the whole run, on their user's word, along paths that Tune knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import ray
from ray.exceptions import RayError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from sweeper.adapters.ray.interrupt import Interrupt
from sweeper.core.command import Orders

LOOK_EVERY_S: Final = 1.0
"""How often the study is asked for commands: 1 ms of reading a second."""
SAVE_LIMIT_S: Final = 600.0
"""Longest wait for a checkpoint when the run is to end."""


class Reins:
    """Carries out orders. Its methods are called in Tune's own loop.

    A trial is cut off by killing its actor: its ranks die with it, wherever they are, and the resources are free within
    a second. Tune then means to run the trial again, and is told not to as soon as it lies PENDING.
    """

    def __init__(
        self, interrupt: Interrupt, take_orders: Callable[[], Orders], notice: Callable[[str], None], *, saves: bool
    ) -> None:
        """Keep what is needed; ``saves``: running trials keep checkpoints, and write one before the run ends."""
        self._interrupt = interrupt
        self._take_orders = take_orders
        self._notice = notice
        self._saves = saves
        self._next_look_s = 0.0
        self._ended: set[str] = set()
        self._left: set[str] = set()
        self._is_ending = False

    @property
    def is_ending(self) -> bool:
        """Whether the run is to end before the sweep has."""
        return self._is_ending

    def look(self, controller: TuneController) -> None:
        """Take up new orders and see to the old ones; to be called a few times a second."""
        if time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + LOOK_EVERY_S
            orders = self._take_orders()
            for trial in controller._live_trials:
                if trial.config["fingerprint"] in orders.ended:
                    self._end(trial)
            if orders.has_new_cells:
                controller._search_alg._finished = False
            if orders.stops_sweep:
                self._interrupt.is_asked = True
        for trial in [trial for trial in controller._live_trials if self.has_ended(trial)]:
            if trial.status == Trial.PENDING and trial not in controller._resetting_trials:
                controller.stop_trial(trial)
        if self._interrupt.is_asked:
            self._wind_up(controller)

    def has_ended(self, trial: Trial) -> bool:
        """Return whether the user has ended this trial; the study says so already."""
        return trial.trial_id in self._ended

    def leaves(self, trial: Trial) -> bool:
        """Return whether this trial, which has just been judged, is to be left for the next run; save it first."""
        if not (self._is_ending and self._saves):
            return False
        self._left.add(trial.trial_id)
        try:
            ray.get(trial.temporary_state.ray_actor.keep.remote(), timeout=SAVE_LIMIT_S)
        except RayError as error:
            self._notice(f"{trial.config['name']}: no checkpoint was written: {str(error).strip().splitlines()[-1]}")
        return True

    def has_left(self, trial: Trial) -> bool:
        return trial.trial_id in self._left

    def _end(self, trial: Trial) -> None:
        self._ended.add(trial.trial_id)
        if trial.temporary_state.ray_actor is not None:
            ray.kill(trial.temporary_state.ray_actor)

    def _wind_up(self, controller: TuneController) -> None:
        if not self._is_ending:
            self._is_ending = True
            running = sum(trial.status == Trial.RUNNING for trial in controller._live_trials)
            if self._saves and running:
                self._notice(f"ending: {running} running, each to its next milestone and checkpoint; Ctrl-C: at once")
        controller._search_alg.set_finished()
        if not self._saves:
            controller.request_stop_experiment()
        for trial in [trial for trial in controller._live_trials if trial.status == Trial.PENDING]:
            if trial not in controller._resetting_trials:
                controller.stop_trial(trial)
