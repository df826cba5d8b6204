"""When a gang that says nothing is taken to hang: a limit learned from the trial's own speed.

A rank that waits for ever in a collective looks exactly like one that computes. Only time tells them apart, and only a
trial's own past tells how much time is right: a step of a small batch on eight GPUs and one of a large batch on a CPU
differ by a factor of a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PATIENCE: Final = 5.0
"""Times the slowest pace so far: a neighbour that takes half of the machine, or a disk that stalls, is no hang."""
MIN_LIMIT_S: Final = 60.0
"""Shortest learned limit, for trials whose milestones take seconds: one swap or one slow mount takes longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The way between two milestones, as it was timed from outside: training, evaluation and checkpoint."""

    samples: int
    """Samples trained on, at least 1."""
    seconds: float


def time_limit_s(past: Sequence[Stretch], samples: int, *, first_limit_s: float, is_new_work: bool = False) -> float:
    """Return how long the next stretch may take before the gang is taken to hang.

    Args:
        past: the trial's earlier stretches on this gang; empty before its first milestone there.
        samples: samples of the next stretch.
        first_limit_s: limit of a stretch from whose like nothing is known yet.
        is_new_work: the stretch ends with an evaluation that no stretch of ``past`` had.
    """
    if not past:
        return first_limit_s
    slowest = max(stretch.seconds / stretch.samples for stretch in past)
    learned = max(PATIENCE * slowest * samples, min(MIN_LIMIT_S, first_limit_s))
    return learned + first_limit_s if is_new_work else learned


def samples_ahead(samples_seen: int, milestones: Sequence[int], batch_size: int) -> int:
    """Return the samples of the optimizer steps to the next milestone; one step's where there is none."""
    following = next((milestone for milestone in milestones if milestone > samples_seen), samples_seen + 1)
    return -(-(following - samples_seen) // batch_size) * batch_size
