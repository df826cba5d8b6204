"""What is said of micro-batches without packing them, against the packing itself."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.core.micro_batch import Lengths, batches
from trials.data import TokenSet
from trials.lengths import sketch
from trials.packing import plan


def token_set(lengths: np.ndarray, share: np.ndarray) -> TokenSet:
    counts = np.maximum(1, ((lengths - 1) * share).astype(np.int32))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    empty = np.zeros(offsets[-1], dtype=np.int32)
    return TokenSet(empty, empty.astype(bool), offsets, counts.astype(np.int32))


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("max_tokens", [600, 2048, 100_000])
@pytest.mark.parametrize("batch_size", [8, 64, 512])
def test_the_fullest_micro_batch_is_foretold_and_hardly_any_is_fuller(
    batch_size: int, max_tokens: int, ranks: int
) -> None:
    draw = np.random.default_rng(batch_size + max_tokens)
    data = token_set(draw.geometric(1 / 120, 4096).clip(4, 590), draw.uniform(0.1, 0.9, 4096))
    lengths = Lengths.of({"lengths": sketch([data])})
    assert lengths is not None
    steps = len(data) // batch_size
    told = batches(lengths, batch_size=batch_size, ranks=ranks, max_tokens=max_tokens, steps=steps)
    slots, losses, counts = [], [], []
    for samples in draw.permutation(len(data))[: steps * batch_size].reshape(steps, batch_size):
        packed = plan(data.lengths[samples] - 1, max_tokens=max_tokens, ranks=ranks)
        counts.append(len(packed))
        rows = [rows for micro_batch in packed for rows in micro_batch]
        slots.append(max(one.width for one in rows))
        losses.append(max(int(data.loss_counts[samples][one.samples].sum()) for one in rows))
    assert np.quantile(slots, 0.99) <= told.largest.tokens * 1.02
    assert told.largest.tokens <= max(slots) * 1.35
    assert np.quantile(losses, 0.99) <= told.largest.loss_tokens * 1.15
    assert min(counts) <= told.micro_batches <= max(counts)
    assert told.tokens == pytest.approx(batch_size * (data.lengths.mean() - 1))


def test_a_batch_that_is_all_of_the_data_has_no_spread() -> None:
    lengths = Lengths(4, 100, 40, np.array([[10.0, 4.0], [20.0, 8.0], [30.0, 12.0], [40.0, 16.0]]))
    whole = batches(lengths, batch_size=4, ranks=1, max_tokens=1000, steps=50)
    assert whole.largest.tokens == pytest.approx(100, rel=0.03)
    assert whole.micro_batches == whole.largest.micro_batches == 1


def test_facts_of_an_older_version_hold_no_lengths() -> None:
    assert Lengths.of({"train_samples": 3}) is None
