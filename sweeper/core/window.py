"""From a stranger's numbers to ours: collects what a trainer says of its steps and measures at milestones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from sweeper.core.derive import Derived
from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.milestones import Milestones


class Window:
    """The steps of one trial since its last measurement. Non-finite numbers are kept as they came."""

    def __init__(self, milestones: Milestones, derived: Derived, batch_size: int) -> None:
        self._milestones = milestones
        self._derived = derived
        self._batch_size = batch_size
        self._points: list[StepPoint] = []
        self._scores: dict[str, float] = {}
        self._samples_before = 0
        self._steps_before = 0
        self._last: StepPoint | None = None
        self.milestone = 0
        """Milestones measured."""

    def add(self, point: StepPoint) -> None:
        """Take one step, or one log of several steps.

        Raises:
            InputError: samples go backwards, or past the planned end by more than a batch for each epoch.
        """
        if self._last is not None and point.samples_seen <= self._last.samples_seen:
            raise InputError(
                "must rise from report to report", where="samples_seen", got=point.samples_seen, mend="count all ranks'"
            )
        epochs = math.ceil(self._derived.planned_samples / self._derived.train_samples)
        if point.samples_seen > self._derived.planned_samples + epochs * self._batch_size:
            raise InputError(
                f"training goes on past the {self._derived.planned_samples} samples planned",
                where="samples_seen",
                got=point.samples_seen,
                mend="make trial.train_samples and train.epochs say what the trainer does",
            )
        self._points.append(point)
        self._last = point

    def add_scores(self, scores: Mapping[str, float]) -> None:
        """Keep held-out scores for the next measurement; a later value replaces an earlier one."""
        self._scores |= scores

    @property
    def samples_seen(self) -> int:
        return 0 if self._last is None else self._last.samples_seen

    @property
    def reached(self) -> int:
        """Milestones at or behind the last step."""
        return self._milestones.passed(self.samples_seen)

    @property
    def is_due(self) -> bool:
        """Whether a milestone was reached that is not measured yet. The last one is measured at the trial's end."""
        return self.milestone < self.reached < len(self._milestones.samples)

    @property
    def is_whole(self) -> bool:
        """Whether all that was planned has been trained on, but for a batch that a trainer may drop in each epoch."""
        epochs = math.ceil(self._derived.planned_samples / self._derived.train_samples)
        return self.samples_seen > self._derived.planned_samples - epochs * self._batch_size

    def measure(
        self, *, train_s: float, eval_s: float = 0.0, peak_memory_bytes: int = 0, is_last: bool = False
    ) -> Measurement:
        """Return the measurement of the steps since the previous one, and begin a new window.

        Losses and gradient norms are means over the steps, weighted by their samples.

        Raises:
            InputError: training ended before what was planned, or no step was told of.
        """
        if is_last and not self.is_whole:
            raise InputError(
                f"training ended after {self.samples_seen} of {self._derived.planned_samples} planned samples",
                where="samples_seen",
                mend="make trial.train_samples and train.epochs say what the trainer does, and report every milestone",
            )
        points, last = self._points, self._last
        assert last is not None
        self.milestone = len(self._milestones.samples) if is_last else self.reached
        measurement = Measurement(
            milestone=self.milestone,
            samples_seen=last.samples_seen,
            tokens_seen=last.tokens_seen,
            step=last.step,
            warmup_done=self._steps_before >= self._derived.warmup_steps,
            train_loss=self._mean([point.loss for point in points]),
            grad_norm=self._mean([point.grad_norm for point in points]),
            scores=dict(self._scores),
            train_s=train_s,
            eval_s=eval_s,
            peak_memory_bytes=peak_memory_bytes,
            is_last=is_last,
            series=tuple(points),
        )
        if not is_last:
            self._samples_before, self._steps_before = last.samples_seen, last.step
            self._points, self._scores = [], {}
        return measurement

    def _mean(self, values: list[float]) -> float:
        ends = [self._samples_before, *(point.samples_seen for point in self._points)]
        weights = [after - before for before, after in pairwise(ends)]
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
