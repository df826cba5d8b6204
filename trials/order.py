"""In which order samples are seen: seeded permutations, one per epoch, read as one endless stream.

A batch may cross the border between two epochs, so that every optimizer step takes exactly its number of samples.
The order is a function of (seed, number of samples, position) alone: nothing has to be saved to resume.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def batch_indices(seed: int, num_samples: int, step: int, batch_size: int) -> NDArray[np.int64]:
    """Return the samples of a 0-based optimizer step, [batch_size]."""
    start, end = step * batch_size, (step + 1) * batch_size
    parts = []
    for epoch in range(start // num_samples, (end - 1) // num_samples + 1):
        begin = epoch * num_samples
        parts.append(epoch_order(seed, num_samples, epoch)[max(start - begin, 0) : end - begin])
    return np.concatenate(parts)


@lru_cache(maxsize=2)
def epoch_order(seed: int, num_samples: int, epoch: int) -> NDArray[np.int64]:
    """Return a permutation of all samples.

    Built from raw PCG64 output: numpy promises that stream for all versions, and does not promise ``permutation``'s.
    """
    keys = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(num_samples)
    order = np.argsort(keys, kind="stable")
    order.setflags(write=False)
    return order
