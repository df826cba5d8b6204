"""From the samples of one effective batch to micro-batches of rows, the same cost on every rank.

A row holds one or more whole samples; a micro-batch is a rectangle of rows, as wide as its fullest row and with at
most ``max_tokens`` slots, or a single sample. Samples are dealt out longest first. Everything is decided from
lengths alone, so that all ranks come to the same plan without talking.

Two layouts: ``packed`` puts all samples of a micro-batch one after another into a single row, which wastes no slot and
needs attention that is told where samples begin; ``padded`` gives each sample a row, for models that have no such
attention.

Lengths here are those of the model's input, one token shorter than the sample: its last token is only a target.
"""

from __future__ import annotations

import heapq
import math
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


def plan(
    lengths: NDArray[np.int64], *, max_tokens: int, ranks: int, layout: Layout = "packed", mixed: bool = False
) -> list[list[Rows]]:
    """Return for each micro-batch the rows of every rank, [micro-batch][rank].

    All ranks get equally many micro-batches, and within each as equally many tokens (``packed``) or rows
    (``padded``) as possible. A sample longer than ``max_tokens`` is alone in its micro-batch; a limit of 1 makes all
    of them so.

    ``mixed`` deals samples out as they come instead of longest first: where they come in random order, every
    micro-batch is a random part of the batch. It costs evenness, and slots where rows are padded, but never a
    micro-batch where rows are packed: what does not fit is dealt out longest first after all.
    """
    dealt_out = _packed if layout == "packed" else _padded
    return dealt_out(lengths, max_tokens, ranks, mixed)


def _packed(lengths: NDArray[np.int64], max_tokens: int, ranks: int, mixed: bool) -> list[list[Rows]]:
    """Return rows of evenly many tokens, one per rank and micro-batch, in as few micro-batches as will hold them."""
    alone = math.ceil(len(lengths) / ranks)
    count = min(math.ceil(int(lengths.sum()) / (ranks * max_tokens)), alone)
    longest_first = np.argsort(-lengths, kind="stable").tolist()
    while (bins := _evenly(longest_first, lengths, count * ranks, max_tokens)) is None:
        count += 1
    if mixed:
        found = _evenly(range(len(lengths)), lengths, count * ranks, max_tokens) or bins
        # Within a row still longest first: kernels take samples of one length together.
        bins = [sorted(members, key=lambda i: -int(lengths[i])) for members in found]
    # Ranks wait for each other after every micro-batch, so rows of the same size go side by side.
    bins.sort(key=lambda members: -int(lengths[members].sum()))
    groups = [bins[first : first + ranks] for first in range(0, len(bins), ranks)]
    return [[_rows([members] if members else [], lengths) for members in group] for group in groups]


def _evenly(order: Sequence[int], lengths: NDArray[np.int64], count: int, capacity: int) -> list[list[int]] | None:
    """Return ``count`` lists of samples, each sample given to the list with the fewest tokens; None if one is full.

    Longest first it is Graham's longest-processing-time rule (SIAM J. Appl. Math. 17, 1969).
    """
    sizes = lengths.tolist()
    bins: list[list[int]] = [[] for _ in range(count)]
    fills = [(0, target) for target in range(count)]
    for i in order:
        fill, target = fills[0]
        if fill and fill + sizes[i] > capacity:
            return None
        heapq.heapreplace(fills, (fill + sizes[i], target))
        bins[target].append(i)
    return bins


def _padded(lengths: NDArray[np.int64], max_tokens: int, ranks: int, mixed: bool) -> list[list[Rows]]:
    """Return rectangles of one sample a row, neighbours in length side by side unless ``mixed``."""
    order = list(range(len(lengths))) if mixed else np.argsort(-lengths, kind="stable").tolist()
    micro_batches = []
    first = 0
    while first < len(order):
        # The widest row to come; the next one, unless mixed.
        rows_per_rank = max(1, max_tokens // int(lengths[order[first:]].max()))
        group = order[first : first + ranks * rows_per_rank]
        micro_batches.append([_rows([[i] for i in group[rank::ranks]], lengths) for rank in range(ranks)])
        first += len(group)
    return micro_batches


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
