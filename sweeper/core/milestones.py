"""Milestones: the points on the samples axis at which every trial of a sweep is measured and judged.

Samples seen, not optimizer steps: with batch size swept, equal steps mean unequal data, and a pruner on that axis
votes for large batches.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from sweeper.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Milestones:
    """Sample counts in rising order, the same for all trials of a sweep; the last one ends a trial."""

    samples: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.samples, self.samples[1:], strict=False))
        if not self.samples or self.samples[0] < 1 or not rising:
            raise InputError("milestones must be rising sample counts above 0", got=self.samples)

    @classmethod
    def even(cls, planned_samples: int, count: int) -> Milestones:
        """Return ``count`` evenly spaced milestones, the last one at ``planned_samples``.

        Fewer come out where there are fewer samples than milestones.
        """
        if count < 1:
            raise InputError("must be at least 1", where="milestones.count", got=count)
        # Ceiling division, so that the last one is exactly the planned number of samples.
        return cls(tuple(sorted({-(-planned_samples * k // count) for k in range(1, count + 1)})))

    @property
    def last(self) -> int:
        return self.samples[-1]

    def passed(self, samples_seen: int) -> int:
        """Return how many milestones lie at or below ``samples_seen``."""
        return bisect_right(self.samples, samples_seen)

    def next_after(self, samples_seen: int) -> int | None:
        """Return the first milestone above ``samples_seen``, or None past the last one."""
        index = self.passed(samples_seen)
        return self.samples[index] if index < len(self.samples) else None
