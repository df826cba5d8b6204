"""Packing: every sample exactly once, no row too wide, work shared evenly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trials.packing import Rows, plan


def occupied(rows: Rows, lengths: np.ndarray) -> list[tuple[int, int]]:
    return [
        (int(row), int(column) + offset)
        for sample, row, column in zip(rows.samples, rows.row, rows.column, strict=True)
        for offset in range(int(lengths[sample]))
    ]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(40, 400),
    st.integers(1, 4),
    st.sampled_from(["packed", "padded"]),
)
def test_every_sample_lies_once_in_its_own_slots(sizes: list[int], max_tokens: int, ranks: int, layout: str) -> None:
    lengths = np.array(sizes)
    planned = plan(lengths, max_tokens=max_tokens, ranks=ranks, layout=layout)
    placed = []
    for micro_batch in planned:
        assert len(micro_batch) == ranks
        row_counts = [rows.num_rows for rows in micro_batch]
        assert max(row_counts) - min(row_counts) <= 1
        for rows in micro_batch:
            slots = occupied(rows, lengths)
            assert len(set(slots)) == len(slots), "two samples share a slot"
            assert all(row < rows.num_rows and column < rows.width for row, column in slots)
            assert rows.num_rows * rows.width <= max_tokens
            placed += rows.samples.tolist()
            if layout == "padded":
                assert rows.num_rows == len(rows.samples)
    assert sorted(placed) == list(range(len(sizes)))


def test_a_sample_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        plan(np.array([5, 9]), max_tokens=8, ranks=1)


def test_realistic_lengths_fill_97_percent_of_the_slots() -> None:
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(5.2, 0.4, 128), 60, 500).astype(np.int64)
    planned = plan(lengths, max_tokens=8192, ranks=2)
    slots = sum(rows.num_rows * rows.width for micro_batch in planned for rows in micro_batch)
    assert lengths.sum() / slots >= 0.97


def test_samples_of_equal_length_get_a_row_each() -> None:
    (rows,) = plan(np.full(6, 7), max_tokens=100, ranks=1)[0]
    assert (rows.num_rows, rows.width) == (6, 7)
