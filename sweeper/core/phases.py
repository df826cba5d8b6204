"""Phased training: the data split into parts that are trained on one after another (arXiv 2412.13337).

Each phase makes all of ``train.epochs`` passes over its part before the next one begins. A pass of a later phase also
takes samples of earlier parts, its replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.core.config import DataConfig
from sweeper.core.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """How many samples one pass of a phase takes."""

    own: int
    """Samples of its part of the data, each of which a pass takes once."""
    replay: int = 0
    """Samples drawn anew for every pass from all earlier parts."""

    @property
    def samples(self) -> int:
        return self.own + self.replay


def phases_of(data: DataConfig, file_samples: Sequence[int]) -> tuple[Phase, ...]:
    """Return the phases over files of so many samples; stacked training is a single one.

    By answer length the parts are as equal in size as can be, shorter answers first, the first parts taking what is
    left over.

    Raises:
        InputError: there are more phases than samples.
    """
    total = sum(file_samples)
    if data.strategy == "stacked":
        return (Phase(own=total),)
    if data.phase_by == "file":
        own = list(file_samples)
    elif data.phases > total:
        raise InputError("there must be a sample for each phase", where="data.phases", got=data.phases)
    else:
        own = [total // data.phases + (index < total % data.phases) for index in range(data.phases)]
    # share = replay / (own + replay), to the nearest whole number of samples.
    ratio = data.replay_share / (1 - data.replay_share)
    return tuple(Phase(own=size, replay=round(ratio * size) if index else 0) for index, size in enumerate(own))
