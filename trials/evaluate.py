"""Held-out scores by teacher forcing: packed forward passes over all test sets at once, split over the ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sweeper.core.evaluation import Metric
from trials.batch import IGNORED, MicroBatch, micro_batch
from trials.data import TokenSet, join
from trials.engines.base import Engine
from trials.gang import Gang
from trials.packing import Layout, plan


@dataclass(frozen=True, slots=True)
class HeldOut:
    """All test sets, as this rank's micro-batches."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Samples of each set; samples are numbered through all sets."""
    loss_counts: NDArray[np.int32]
    batches: tuple[MicroBatch, ...]


def hold_out(sets: Mapping[str, TokenSet], *, max_tokens: int, layout: Layout, gang: Gang) -> HeldOut:
    """Return the test sets laid out once for all milestones; ``sets`` holds at least one."""
    data = join(list(sets.values()))
    everything = np.arange(len(data))
    planned = plan(data.lengths - 1, max_tokens=max_tokens, ranks=gang.world_size, layout=layout)
    batches = tuple(micro_batch(data, everything, rows[gang.rank]).to(gang.device) for rows in planned)
    return HeldOut(tuple(sets), tuple(len(one) for one in sets.values()), data.loss_counts, batches)


def evaluate(engine: Engine, held_out: HeldOut, metrics: Sequence[Metric], gang: Gang) -> dict[str, float]:
    """Return the scores of all sets, the same on every rank.

    ``heldout_loss`` is the mean cross-entropy per loss token. ``exact_match`` is the share of samples of which every
    loss token is the most likely one given the right tokens before it; that is the case if and only if greedy decoding
    produces the whole answer. A non-finite loss stays what it is, and its sample does not match.
    """
    loss, wrong = sample_sums(engine, held_out.batches, sum(held_out.sizes), gang)
    scores: dict[str, float] = {}
    for metric in metrics:
        values = []
        for part in parts(held_out.sizes):
            if metric == "heldout_loss":
                values.append(loss[part].sum() / held_out.loss_counts[part].sum())
            else:
                values.append((wrong[part] == 0).mean())
        scores |= by_set(metric, held_out.names, values)
    return scores


def parts(sizes: Sequence[int]) -> list[slice]:
    """Return where each set lies among the samples of all sets, one after another."""
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for size, end in zip(sizes, ends, strict=True)]


def by_set(metric: str, names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Return a metric's score for each set as ``METRIC/NAME``, and their plain mean as ``METRIC``."""
    scores = {f"{metric}/{name}": float(value) for name, value in zip(names, values, strict=True)}
    return scores | {metric: float(np.mean(values))}


def sample_sums(
    engine: Engine, batches: Iterable[MicroBatch], num_samples: int, gang: Gang
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each sample's summed cross-entropy and its number of wrong tokens over all ranks' micro-batches.

    Wrong is a token that is not the most likely one, or whose cross-entropy is not finite.
    """
    # One reduction for all.
    totals = torch.zeros((2, num_samples), dtype=torch.float64, device=gang.device)
    for batch in batches:
        _add(totals, engine.logits(batch).float(), batch)
    loss, wrong = gang.sum(totals).cpu().numpy()
    return loss, wrong


def _add(totals: Tensor, logits_nv: Tensor, batch: MicroBatch) -> None:
    loss_n = functional.cross_entropy(logits_nv, batch.targets_n, ignore_index=IGNORED, reduction="none")
    is_wrong_n = (logits_nv.argmax(-1) != batch.targets_n) | ~loss_n.isfinite()
    # Dummy slots point at sample 0 and must leave it alone.
    is_wrong_n &= batch.targets_n != IGNORED
    totals[0].index_add_(0, batch.sample_n, loss_n.double())
    totals[1].index_add_(0, batch.sample_n, is_wrong_n.double())
