"""The stream of samples."""

from collections import Counter

import numpy as np
import pytest

from trials.order import batch_indices, epoch_order


def test_each_epoch_holds_every_sample_once() -> None:
    assert sorted(epoch_order(0, 100, 0)) == list(range(100))


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(epoch_order(seed, 50, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_the_order_is_fixed_for_all_time() -> None:
    """A changed order would make exported configs train differently."""
    assert epoch_order(0, 8, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64])
def test_batches_are_the_concatenated_epochs_cut_to_exact_size(batch_size: int) -> None:
    stream = np.concatenate([epoch_order(3, 10, epoch) for epoch in range(20)])
    for step in range(3):
        batch = batch_indices(3, 10, step, batch_size)
        assert batch.tolist() == stream[step * batch_size : (step + 1) * batch_size].tolist()


def test_after_whole_epochs_every_sample_was_seen_equally_often() -> None:
    seen = Counter(int(i) for step in range(15) for i in batch_indices(0, 10, step, 2))
    assert set(seen.values()) == {3}
