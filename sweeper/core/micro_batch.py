"""How a batch falls into micro-batches, from the lengths of the data alone, without packing a single one.

``trials.packing`` deals samples out evenly into as few rows as the token limit allows. How full the fullest row of a
whole trial gets is a matter of how much batches differ: the sum of B lengths varies by their deviation times the root
of B, less where a batch is a large part of the data.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sweeper.core.memory_terms import Load

DRAWN_BATCH: Final = 64
"""Batches of up to so many samples are drawn; the sum of more is near enough to normal."""
DRAWS: Final = 8192
"""Of such batches: more than most trials have steps, so that the fullest is seldom fuller than the fullest drawn."""


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths of a training set: totals, and samples at even ranks of length as [input tokens, loss tokens]."""

    samples: int
    tokens: int
    loss_tokens: int
    shown: NDArray[np.float64]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Lengths | None:
        """Return what ``trials prepare`` found, or None where the facts are of an older version."""
        found = facts.get("lengths")
        if not found:
            return None
        shown = np.array(found["shown"], dtype=np.float64)
        return cls(int(found["samples"]), int(found["tokens"]), int(found["loss_tokens"]), shown)

    @property
    def mean(self) -> float:
        return self.tokens / self.samples

    @cached_property
    def longest(self) -> float:
        return float(self.shown[:, 0].max())

    @cached_property
    def deviation(self) -> float:
        return float(self.shown[:, 0].std())

    @property
    def loss_share(self) -> float:
        return self.loss_tokens / self.tokens

    @cached_property
    def loss_deviation(self) -> float:
        """Deviation of a sample's loss tokens from the share of its length."""
        return float((self.shown[:, 1] - self.loss_share * self.shown[:, 0]).std())

    def pairs(self, window: int | None) -> float:
        """Return the mean number of (token, token seen) pairs of a sample under causal attention."""
        lengths = self.shown[:, 0]
        seen = lengths if window is None else np.minimum(lengths, window)
        scale = self.mean / float(lengths.mean())
        return float((seen * (seen + 1) / 2 + (lengths - seen) * seen).mean()) * scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """What the batches of one trial are on each rank."""

    largest: Load
    """The fullest micro-batch, and the most of them in a step."""
    micro_batches: int
    """Of a batch of mean size: the accumulation."""
    tokens: float
    """Input tokens of a mean batch, all ranks."""


def batches(lengths: Lengths, *, batch_size: int, ranks: int, max_tokens: int, steps: int) -> Batches:
    """Return how batches of ``batch_size`` samples fall into micro-batches of at most ``max_tokens`` on each rank."""
    row, loss, count = _extremes(lengths, batch_size, ranks, max_tokens, steps)
    return Batches(
        largest=Load(tokens=math.ceil(row), loss_tokens=math.ceil(min(loss, row)), micro_batches=count),
        micro_batches=_count(batch_size * lengths.mean, ranks, max_tokens, batch_size),
        tokens=batch_size * lengths.mean,
    )


def _extremes(lengths: Lengths, batch_size: int, ranks: int, max_tokens: int, steps: int) -> tuple[float, float, int]:
    """Return tokens and loss tokens of the fullest row, and the most micro-batches of a step."""
    if batch_size <= DRAWN_BATCH and 4 * batch_size <= lengths.samples:
        return _drawn(lengths, batch_size, ranks, max_tokens)
    mean = batch_size * lengths.mean
    # The most extreme of ``steps`` draws from a normal distribution lies about here.
    reach = math.sqrt(2 * math.log(max(steps, 2)))
    unseen = max(0.0, 1 - batch_size / lengths.samples)
    spread = reach * lengths.deviation * math.sqrt(batch_size * unseen)
    most, least = min(mean + spread, batch_size * lengths.longest), max(mean - spread, 0.0)
    counts = {_count(most, ranks, max_tokens, batch_size), _count(least, ranks, max_tokens, batch_size)}
    count = max(counts)
    # Where batches come to either side of a full number of rows, the fullest row is as good as full.
    row = float(max_tokens) if len(counts) > 1 else most / (ranks * count)
    per_row = batch_size / (ranks * count)
    # Dealt out longest first, the fullest row is at most a third above the mean (Graham 1969), near it with several.
    row = min(max(row * (1 + 1 / (3 * max(per_row, 1.0) ** 2)), lengths.longest), float(max_tokens))
    rows = steps * ranks * count
    loss = row * lengths.loss_share
    loss += math.sqrt(2 * math.log(max(rows, 2))) * lengths.loss_deviation * math.sqrt(max(row / lengths.mean, 1.0))
    return row, loss, count


def _drawn(lengths: Lengths, batch_size: int, ranks: int, max_tokens: int) -> tuple[float, float, int]:
    """Return the same for small batches, whose sums are not normal: drawn, and the largest dealt out."""
    draw = np.random.default_rng(0)
    chosen = draw.integers(len(lengths.shown), size=(DRAWS, batch_size))
    totals = lengths.shown[:, 0][chosen].sum(1)
    losses = lengths.shown[:, 1][chosen].sum(1)
    count = _count(float(totals.max()), ranks, max_tokens, batch_size)
    # Fullest are the rows of the largest batches, or of batches that just fit one micro-batch less.
    per_row = totals / (ranks * np.ceil(totals / (ranks * max_tokens)))
    picked = {*np.argsort(-totals)[:8], *np.argsort(-losses)[:8], *np.argsort(-per_row)[:8]}
    row = loss = 0.0
    for index in sorted(picked):
        samples = lengths.shown[chosen[index]]
        bins = _count(float(totals[index]), ranks, max_tokens, batch_size) * ranks
        fills = [(0.0, 0.0)] * bins
        for length, lossy in samples[np.argsort(-samples[:, 0])].tolist():
            fill, lost = fills[0]
            heapq.heapreplace(fills, (fill + length, lost + lossy))
        row = max(row, max(fill for fill, _ in fills))
        loss = max(loss, max(lost for _, lost in fills), float(samples[:, 1].max()))
    return min(row, max(float(max_tokens), lengths.longest)), loss, count


def _count(tokens: float, ranks: int, max_tokens: int, batch_size: int) -> int:
    """Return the micro-batches of a batch; no more than one sample each makes."""
    return max(1, min(math.ceil(tokens / (ranks * max_tokens)), math.ceil(batch_size / ranks)))
