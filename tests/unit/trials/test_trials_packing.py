"""Packing: every sample exactly once, no row too wide, work shared evenly."""

import numpy as np
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
    st.booleans(),
)
def test_every_sample_lies_once_in_its_own_slots(
    sizes: list[int], max_tokens: int, ranks: int, layout: str, mixed: bool
) -> None:
    lengths = np.array(sizes)
    planned = plan(lengths, max_tokens=max_tokens, ranks=ranks, layout=layout, mixed=mixed)
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
            else:
                assert rows.num_rows * rows.width == len(slots), "a slot is wasted"
    assert sorted(placed) == list(range(len(sizes)))


def test_a_sample_beyond_the_limit_is_alone_in_its_micro_batch() -> None:
    planned = plan(np.array([5, 9, 2]), max_tokens=8, ranks=1)
    assert [rows.samples.tolist() for (rows,) in planned] == [[1], [0, 2]]


def test_packed_rows_are_no_more_than_the_tokens_need_and_of_one_size() -> None:
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(5.2, 0.4, 128), 60, 500).astype(np.int64)
    for ranks, max_tokens in ((1, 2048), (2, 8192), (8, 1024)):
        planned = plan(lengths, max_tokens=max_tokens, ranks=ranks)
        assert len(planned) == -(-int(lengths.sum()) // (ranks * max_tokens))
        for micro_batch in planned:
            widths = [rows.width for rows in micro_batch]
            assert np.mean(widths) >= 0.97 * max(widths)


def test_a_batch_that_fills_its_rows_to_the_last_slot_still_fits() -> None:
    assert len(plan(np.array([6, 4, 5, 5]), max_tokens=10, ranks=2)) == 1


def test_ranks_without_a_sample_get_dummy_work() -> None:
    (micro_batch,) = plan(np.array([4, 3]), max_tokens=10, ranks=4)
    assert [rows.num_rows for rows in micro_batch] == [1, 1, 0, 0]


def test_samples_of_equal_length_make_a_full_rectangle_where_padding_is_asked_for() -> None:
    (rows,) = plan(np.full(6, 7), max_tokens=100, ranks=1, layout="padded")[0]
    assert (rows.num_rows, rows.width) == (6, 7)
