"""From the samples of one effective batch to micro-batches of rows, the same cost on every rank.

A row holds one or more whole samples; a micro-batch is a rectangle of rows, as wide as its fullest row and with at
most ``max_tokens`` slots. Samples are packed longest first. Everything is decided from lengths alone, so that all
ranks come to the same plan without talking.

Lengths here are those of the model's input, one token shorter than the sample: its last token is only a target.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["packed", "padded"]


@dataclass(frozen=True, slots=True)
class Rows:
    """A micro-batch of one rank: which samples lie where. No samples at all means dummy work."""

    samples: NDArray[np.int64]
    """Positions in the effective batch, [sample]."""
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    """Row and first column of each sample, [sample]."""
    num_rows: int
    width: int


def plan(lengths: NDArray[np.int64], *, max_tokens: int, ranks: int, layout: Layout = "packed") -> list[list[Rows]]:
    """Return for each micro-batch the rows of every rank, [micro-batch][rank].

    All ranks get equally many micro-batches, and within each as equally many rows as possible.

    Raises:
        ValueError: a sample is longer than ``max_tokens``.
    """
    if lengths.max() > max_tokens:
        raise ValueError(f"a sample of {lengths.max()} tokens does not fit into {max_tokens}")
    bins = _bins(lengths, layout)
    fills = np.array([sum(int(lengths[i]) for i in members) for members in bins])
    order = np.argsort(-fills, kind="stable")
    micro_batches = []
    first = 0
    while first < len(order):
        # Rows come widest first, so the first one sets the width.
        rows_per_rank = max_tokens // int(fills[order[first]])
        group = order[first : first + ranks * rows_per_rank]
        micro_batches.append([_rows([bins[i] for i in group[rank::ranks]], lengths) for rank in range(ranks)])
        first += len(group)
    return micro_batches


def _bins(lengths: NDArray[np.int64], layout: Layout) -> list[list[int]]:
    """Return the samples of each row: best fit, longest first, into rows as wide as the longest sample."""
    order = np.argsort(-lengths, kind="stable").tolist()
    width = int(lengths.max())
    if layout == "padded" or len(order) < 2 or int(lengths[order[-1]] + lengths[order[-2]]) > width:
        return [[i] for i in order]
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (slots left, bin), ascending
    for i in order:
        length = int(lengths[i])
        position = bisect_left(free, (length, -1))
        if position == len(free):
            bins.append([i])
            slots, target = width - length, len(bins) - 1
        else:
            slots, target = free.pop(position)
            bins[target].append(i)
            slots -= length
        if slots:
            insort(free, (slots, target))
    return bins


def _rows(bins: Sequence[Sequence[int]], lengths: NDArray[np.int64]) -> Rows:
    samples = np.array([i for members in bins for i in members], dtype=np.int64)
    row = np.repeat(np.arange(len(bins)), [len(members) for members in bins])
    column = np.zeros(len(samples), dtype=np.int64)
    used = lengths[samples]
    if len(samples):
        ends = np.cumsum(used)
        starts_of_row = (ends - used)[np.searchsorted(row, np.arange(len(bins)))]
        column = ends - used - starts_of_row[row]
    width = int((column + used).max()) if len(samples) else 0
    return Rows(samples, row, column, len(bins), width)
