"""Random draws that are the same on every machine and Python version.

Only ``random.Random.random`` is promised by Python's documentation to keep its sequence; ``choice``, ``shuffle`` and
``sample`` are not, so they are built here from it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of random choices, named by a seed and a purpose so that streams do not depend on each other."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._random = random.Random(f"{seed}/{purpose}").random

    def below(self, bound: int) -> int:
        """Return a whole number in [0, bound)."""
        return int(self._random() * bound)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random() < probability

    def one_of(self, items: Sequence[T]) -> T:
        """Return one item, all equally likely."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        keys = [self._random() for _ in items]
        return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]
