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

ALONE_FILL = 0.9
"""From this share of used slots on, samples get a row each: plain causal attention is cheaper than a block mask."""
GOOD_FILL = 0.98
"""A row width that fills this share of the slots is good enough."""


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
    bins = _bins(lengths, layout, max_tokens)
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


def _bins(lengths: NDArray[np.int64], layout: Layout, max_tokens: int) -> list[list[int]]:
    """Return the samples of each row.

    One sample a row where that fills the rectangle well. Otherwise rows as wide as the longest sample, or up to three
    times as wide where whole samples do not fill those: wider rows waste fewer slots and cost more attention.
    """
    order = np.argsort(-lengths, kind="stable").tolist()
    longest, total = int(lengths.max()), int(lengths.sum())
    alone = [[i] for i in order]
    if layout == "padded" or total >= ALONE_FILL * longest * len(order):
        return alone
    best: tuple[float, list[list[int]]] = (0.0, alone)
    for quarters in range(4, 13):
        width = longest * quarters // 4
        if width > max_tokens:
            break
        bins = _best_fit(order, lengths, width)
        fill = total / (len(bins) * width)
        best = max(best, (fill, bins), key=lambda pair: pair[0])
        if fill >= GOOD_FILL:
            break
    return best[1]


def _best_fit(order: Sequence[int], lengths: NDArray[np.int64], width: int) -> list[list[int]]:
    """Return rows of at most ``width`` slots: each sample goes where it leaves the fewest free."""
    sizes = lengths.tolist()
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (slots left, row), ascending
    for i in order:
        position = bisect_left(free, (sizes[i], -1))
        if position == len(free):
            bins.append([])
            slots, target = width, len(bins) - 1
        else:
            slots, target = free.pop(position)
        bins[target].append(i)
        if slots > sizes[i]:
            insort(free, (slots - sizes[i], target))
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
