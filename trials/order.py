"""In which order samples are seen: seeded permutations, one per pass, read as one endless stream.

Stacked training is a single phase; phases follow each other after ``epochs`` passes each (see ``sweeper.core.phases``).
A batch may cross the border between two passes or two phases, so that every optimizer step takes exactly its number of
samples. The order is a function of (seed, phases, position) alone: nothing has to be saved to resume.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from sweeper.core.config import TrialConfig
from sweeper.core.phases import phases_of
from trials.data import TokenSet


class Order:
    """The order of one trial."""

    def __init__(self, config: TrialConfig, train: TokenSet) -> None:
        """Lay out the phases over the training set.

        Raises:
            InputError: there are more phases than samples.
        """
        self._seed = config.train.seed
        self._phases = phases_of(config.data, train.file_samples)
        # Samples in the order of the phases: a phase's own ones come after all those it may replay.
        self._samples = np.arange(len(train))
        if config.data.strategy == "phased" and config.data.phase_by == "answer_length":
            self._samples = np.argsort(train.loss_counts, kind="stable")
        self._firsts = list(accumulate((phase.own for phase in self._phases), initial=0))
        ends = np.cumsum([phase.samples for phase in self._phases])
        # As ``derive`` rounds, so that the last phase ends where the planned samples do.
        self._begins = [0, *(math.ceil(config.train.epochs * int(end) - 1e-9) for end in ends[:-1])]
        self.samples_per_pass = int(ends[-1])
        """Samples of one pass over all phases, replay included."""

    def batch(self, step: int, batch_size: int) -> NDArray[np.int64]:
        """Return the samples of a 0-based optimizer step, [batch_size]."""
        return self._stream(step * batch_size, (step + 1) * batch_size)

    def _stream(self, start: int, end: int) -> NDArray[np.int64]:
        parts = []
        for number, begin in enumerate(self._begins):
            finish = end if number + 1 == len(self._begins) else min(end, self._begins[number + 1])
            if max(start, begin) < finish:
                parts.append(self._of_phase(number, max(start, begin) - begin, finish - begin))
        return np.concatenate(parts)

    def _of_phase(self, number: int, start: int, end: int) -> NDArray[np.int64]:
        phase = self._phases[number]
        parts = []
        for epoch in range(start // phase.samples, (end - 1) // phase.samples + 1):
            begin = epoch * phase.samples
            seen = epoch_order(self._seed, phase.samples, epoch, number)[max(start - begin, 0) : end - begin]
            parts.append(self._samples[self._taken(seen, number, epoch)])
        return np.concatenate(parts)

    def _taken(self, seen: NDArray[np.int64], number: int, epoch: int) -> NDArray[np.int64]:
        """Return which samples, in the order of the phases, a pass takes as its own, and which as its replay."""
        phase, first = self._phases[number], self._firsts[number]
        if not phase.replay:
            return first + seen
        # A draw of more than all earlier samples begins again from the first of them.
        drawn = np.resize(epoch_order(self._seed, first, epoch, number, 1), phase.replay)
        return np.where(seen < phase.own, first + seen, drawn[np.maximum(seen - phase.own, 0)])


@lru_cache(maxsize=4)
def epoch_order(seed: int, num_samples: int, epoch: int, *branch: int) -> NDArray[np.int64]:
    """Return a permutation of all samples; each ``branch`` has its own.

    Built from raw PCG64 output: numpy promises that stream for all versions, and does not promise ``permutation``'s.
    A branch of zeros is no branch: numpy's seeds are padded with them.
    """
    keys = np.random.PCG64(np.random.SeedSequence([seed, epoch, *branch])).random_raw(num_samples)
    order = np.argsort(keys, kind="stable")
    order.setflags(write=False)
    return order
