"""What a trial measures besides its training, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sweeper.core.errors import InputError

Metric = Literal["heldout_loss", "exact_match", "answer_match", "multiple_choice", "lm_eval"]
AnswerRule = Literal["whole", "last_number", "after_marker"]
HELD_OUT_METRICS: Final[tuple[Metric, ...]] = ("heldout_loss", "exact_match", "answer_match")
"""Metrics that are measured on the sets of ``data.test``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """What is measured on the held-out sets. Never changes the loss sequence."""

    milestones: int = 10
    """Evenly spaced points on the samples axis at which a trial is measured and judged; the last one is its end."""
    metrics: tuple[Metric, ...] = ("heldout_loss",)
    """Measured at every milestone. ``heldout_loss``: mean cross-entropy per loss token. ``exact_match``: share of
    samples whose whole answer is produced by greedy decoding, from one forward pass. ``answer_match``: share of samples
    whose final answer is right in the text that greedy decoding writes. ``multiple_choice``: share of questions whose
    right choice is the likeliest. ``lm_eval``: what the tasks of ``lm_eval_tasks`` measure."""
    final_metrics: tuple[Metric, ...] = ()
    """Measured at a trial's end alone, and where ``final_metrics_at`` says: the dear ones. Before that a pruner goes by
    what there is: training loss, gradient norm and ``metrics``."""
    final_metrics_at: tuple[int, ...] = ()
    """Milestones, counted from 1, at which ``final_metrics`` are measured besides the end."""
    max_samples: int | None = None
    """Use only the first so many samples of each held-out set, of each subject of a multiple-choice set, and of each
    lm-eval task; empty means all."""
    max_new_tokens: int = 256
    """Longest answer that ``answer_match`` decodes, in tokens."""
    answer: AnswerRule = "whole"
    """What ``answer_match`` compares: the ``whole`` text, its ``last_number``, or the line ``after_marker``."""
    answer_marker: str = "####"
    """Begins the final answer where ``answer`` is ``after_marker``."""
    multiple_choice: Mapping[str, str] = field(default_factory=dict)
    """JSONL files by name of the set: chats with ``answer``, ``subject``, and ``choices`` or lettered lines."""
    few_shot: int = 0
    """Solved questions of the same subject before each multiple-choice question."""
    few_shot_from: Mapping[str, str] = field(default_factory=dict)
    """File of solved questions for each multiple-choice set, by the set's name."""
    choice_score: Literal["sum", "mean"] = "sum"
    """A choice's score: the ``sum`` of its tokens' log-likelihoods, or their ``mean``."""
    lm_eval_tasks: tuple[str, ...] = ()
    """Tasks of the package lm-eval; needs the extra ``eval``."""
    lm_eval_path: str | None = None
    """Folder with the task files; empty means those that come with lm-eval, whose data must be at hand."""

    lm_eval_chat: bool = False
    """Put the tasks' texts into the chat template, solved examples as earlier turns."""

    def __post_init__(self) -> None:
        for name in ("milestones", "max_new_tokens", "max_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError("must be at least 1", where=name, got=value)
        if self.few_shot < 0:
            raise InputError("must be at least 0", where="few_shot", got=self.few_shot)
        if not self.answer_marker.strip():
            raise InputError("must not be empty", where="answer_marker", got=self.answer_marker)
        self._check_final_metrics()
        self._check_sources()

    def metrics_between(self, before: int, passed: int, *, is_last: bool) -> tuple[Metric, ...]:
        """Return what is measured when the number of milestones passed rises from ``before`` to ``passed``."""
        if is_last or any(before < milestone <= passed for milestone in self.final_metrics_at):
            return (*self.metrics, *self.final_metrics)
        return self.metrics

    @property
    def all_metrics(self) -> tuple[Metric, ...]:
        return (*self.metrics, *self.final_metrics)

    def _check_final_metrics(self) -> None:
        twice = sorted(set(self.metrics) & set(self.final_metrics))
        if twice:
            raise InputError("is measured at every milestone already", where="final_metrics", got=twice[0])
        wrong = [milestone for milestone in self.final_metrics_at if not 1 <= milestone <= self.milestones]
        if wrong:
            raise InputError(
                f"must name milestones from 1 to {self.milestones}", where="final_metrics_at", got=wrong[0]
            )
        if self.final_metrics_at and not self.final_metrics:
            raise InputError("needs final_metrics", where="final_metrics_at", got=self.final_metrics_at)

    def _check_sources(self) -> None:
        for metric, key in (("multiple_choice", "multiple_choice"), ("lm_eval", "lm_eval_tasks")):
            is_measured, given = metric in self.all_metrics, getattr(self, key)
            if is_measured and not given:
                raise InputError(f"metric {metric} needs eval.{key}", where=key, got=given)
            if given and not is_measured:
                raise InputError(
                    "is not measured", where=key, got=given, mend=f"add {metric} to eval.metrics or eval.final_metrics"
                )
        missing = [name for name in self.multiple_choice if self.few_shot and name not in self.few_shot_from]
        if missing:
            raise InputError("names no file of solved questions", where="few_shot_from", got=missing[0])
        stray = [name for name in self.few_shot_from if name not in self.multiple_choice]
        if stray:
            raise InputError("is no set of eval.multiple_choice", where="few_shot_from", got=stray[0])
