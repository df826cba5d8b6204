"""Makes a trial of ``transformers.Trainer``, and of all that are built on it, such as TRL's ``SFTTrainer``.

    trainer = SFTTrainer(..., callbacks=[SweeperCallback()])

Needs transformers and torch, none of Ray, Optuna and MLflow. Outside a sweep the callback does nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sweeper.trial import Trial, TrialStopped, current

_HELD_OUT = "eval_"
_NO_SCORES = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_num_tokens")


class SweeperCallback(TrainerCallback):
    """Reports each optimizer step, measures at the sweep's milestones, and leaves training when the trial is pruned.

    ``eval_loss`` becomes ``heldout_loss``, and any other ``eval_NAME`` the score ``NAME``. All ranks leave
    ``trainer.train()`` at the same step, by ``sweeper.trial.TrialStopped``: nothing after it is run.
    """

    def __init__(self, *, evaluate: bool | None = None, log_every_step: bool = True) -> None:
        """Choose what the trainer does beyond its own arguments.

        Args:
            evaluate: evaluate at each milestone; default: unless ``eval_strategy`` is ``no``.
            log_every_step: log each optimizer step, whatever ``logging_steps`` says: a pruner sees the means of all
                steps then, and not the one at the milestone alone.
        """
        self._evaluate = evaluate
        self._log_every_step = log_every_step
        self._trial: Trial | None = current()
        self._samples_seen = 0
        self._is_due = False
        self._awaits_scores = False
        self._told: dict[str, Any] = {}
        self._mark_s = 0.0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a log, and at a milestone for an evaluation, which follow at once."""
        if self._trial is None:
            return
        self._samples_seen = samples_seen(args, state, kwargs.get("train_dataloader"))
        self._is_due = self._trial.is_due_at(self._samples_seen)
        if self._is_due or self._log_every_step:
            control.should_log = True
        wanted = args.eval_strategy != "no" if self._evaluate is None else self._evaluate
        self._awaits_scores = self._is_due and wanted
        if self._awaits_scores:
            control.should_evaluate = True
        self._mark_s = time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Take the step's loss and gradient norm, which are the same on every rank."""
        if self._trial is None or not logs or "loss" not in logs:
            return
        self._told = {
            "samples_seen": self._samples_seen,
            "step": state.global_step,
            "loss": float(logs["loss"]),
            "grad_norm": float(logs.get("grad_norm", math.nan)),
            "learning_rate": float(logs.get("learning_rate", math.nan)),
            "tokens_seen": int(logs.get("num_tokens", state.num_input_tokens_seen)),
        }
        self._mark_s = time.monotonic()
        if not self._awaits_scores:
            self._observe(control, {})

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Measure, where this is the evaluation of a milestone."""
        if self._trial is None or not self._awaits_scores:
            return
        self._trial.evaluated(time.monotonic() - self._mark_s)
        self._awaits_scores = False
        self._observe(control, scores_of(metrics or {}))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave out the epoch's evaluation and checkpoint where the trial has been pruned."""
        if self._trial is not None and self._trial.stopped:
            control.should_log = control.should_evaluate = control.should_save = False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the script of a pruned trial; the last measurement of any other is taken when its process ends."""
        if self._trial is not None and self._trial.stopped:
            raise TrialStopped

    def _observe(self, control: TrainerControl, scores: dict[str, float]) -> None:
        assert self._trial is not None
        if self._trial.observe(**self._told, scores=scores):
            control.should_training_stop = True
            control.should_log = control.should_evaluate = control.should_save = False


def scores_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return an evaluation's scores by our names; speeds and counts are no scores."""
    found = {
        name.removeprefix(_HELD_OUT): float(value)
        for name, value in metrics.items()
        if name.startswith(_HELD_OUT) and name not in _NO_SCORES and isinstance(value, (int, float))
    }
    if "loss" in found:
        found["heldout_loss"] = found.pop("loss")
    return found


def samples_seen(args: TrainingArguments, state: TrainerState, dataloader: Any) -> int:
    """Return the samples that all ranks have trained on; an epoch's last batch may be a smaller one."""
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    try:
        size = len(dataloader.dataset)
    except (AttributeError, TypeError):
        return int(state.global_step * batch)
    steps_per_epoch = math.ceil(size / batch) if not args.dataloader_drop_last else max(size // batch, 1)
    epochs, steps = divmod(state.global_step, steps_per_epoch)
    whole = min(steps_per_epoch * batch, size)
    return int(epochs * whole + min(steps * batch, whole))
