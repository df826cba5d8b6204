"""Exact per-sample gradients of a tiny model, and single optimizer steps of any engine to hold against them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode


@dataclass(frozen=True, slots=True)
class Samples:
    """Gradients of the summed loss of single samples."""

    gradients: np.ndarray
    """[sample, weight]"""
    loss_tokens: np.ndarray
    lengths: np.ndarray
    """Input tokens of each sample."""
    names: list[str]
    """The parameter that each weight belongs to."""


def sample_gradients(one: TrialConfig, count: int) -> Samples:
    """Feed the first samples one at a time, unpadded, through the model class itself, in fp64."""
    import torch

    from trials.corpus import load_data
    from trials.model import load_model

    model = load_model(Path(one.model.path), one.model).double()
    data, _ = load_data(one)
    named = list(model.named_parameters())
    rows = []
    for index in range(count):
        span = slice(data.offsets[index], data.offsets[index + 1])
        ids = torch.from_numpy(data.tokens[span].astype(np.int64))
        is_loss = torch.from_numpy(data.loss_mask[span][1:].astype(bool))
        logits = model(input_ids=ids[None]).logits[0, :-1]
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits[is_loss], ids[1:][is_loss], reduction="sum").backward()
        rows.append(torch.cat([parameter.grad.flatten() for _, parameter in named]).numpy())
    names = [name for name, parameter in named for _ in range(parameter.numel())]
    return Samples(np.stack(rows), data.loss_counts[:count].astype(float), data.lengths[:count] - 1, names)


Step = tuple[list[float], list[list[int]], float]


def one_step(
    rank: int, ranks: int, init_method: str, plain: dict[str, Any], cases: list[dict[str, Any]], leave: bool = True
) -> list[Step]:
    """Take one probed optimizer step on the first samples for each case, a case being settings of the train section.

    Returns the step's totals, the samples of each micro-batch that has any, and the update-to-weight ratio from copies
    of all weights.
    """
    import torch

    from trials.batch import micro_batch
    from trials.corpus import load_data
    from trials.gang import Gang, connect
    from trials.packing import plan
    from trials.session import make_engine

    gang = Gang(rank=rank, world_size=ranks, device=torch.device("cpu"))
    if not torch.distributed.is_initialized():
        connect(gang, init_method)
    found = []
    engines: dict[str, Any] = {}
    for case in cases:
        one = decode(TrialConfig, plain | {"train": plain["train"] | {"ranks": ranks} | case})
        data, _ = load_data(one)
        chosen = np.arange(one.train.batch_size)
        limit = one.train.max_tokens_per_rank
        planned = plan(data.lengths[chosen] - 1, max_tokens=limit, ranks=ranks, mixed=True)
        engine = engines.setdefault(one.train.engine, None) or make_engine(one, gang)
        engines[one.train.engine] = engine
        engine.reset(one.train)
        before = {name: weights.clone() for name, weights in engine.full_weights().items()}
        engine.probe.begin(True)
        loss_sum = torch.zeros((), dtype=torch.float64)
        loss_tokens = int(data.loss_counts[chosen].sum())
        for index, rows in enumerate(planned, start=1):
            batch = micro_batch(data, chosen, rows[rank])
            loss_sum += engine.backward(batch, loss_tokens=loss_tokens, is_last=index == len(planned))
        totals = engine.step(loss_sum, learning_rate=1e-3, clip_norm=1.0, measure_update=True)
        after = engine.full_weights()
        parts = [rows.samples.tolist() for micro in planned for rows in micro if len(rows.samples)]
        moved = sum(float((after[name] - old).double().square().sum()) for name, old in before.items())
        weights = sum(float(old.double().square().sum()) for old in before.values())
        found.append((totals.tolist(), parts, (moved / weights) ** 0.5 if before else 0.0))
    if leave:
        torch.distributed.destroy_process_group()
    return found


def check_step(samples: Samples, step: Step) -> None:
    """Assert that a step's numbers are those of the samples it was taken on, the first ones."""
    from trials.signals import GROUPS, StepTotals, group_of

    totals, parts, ratio = StepTotals.of(step[0]), step[1], step[2]
    in_batch = sorted(index for part in parts for index in part)
    assert in_batch == list(range(len(in_batch)))
    tokens = samples.loss_tokens[in_batch].sum()
    batch = samples.gradients[in_batch].sum(0) / tokens
    kinds = np.array([group_of(name) for name in samples.names])
    assert totals.grad_norm == pytest.approx(np.linalg.norm(batch), rel=1e-5)
    assert totals.group_squares == pytest.approx([(batch[kinds == group] ** 2).sum() for group in GROUPS], rel=1e-5)
    assert sum(totals.group_squares) == pytest.approx(totals.grad_norm**2, rel=1e-6)
    assert totals.parts == len(parts) >= 2
    mean_gradients = [samples.gradients[part].sum(0) / samples.loss_tokens[part].sum() for part in parts]
    shares = [samples.loss_tokens[part].sum() / tokens for part in parts]
    assert totals.parts_square == pytest.approx(np.dot(shares, [(g**2).sum() for g in mean_gradients]), rel=1e-5)
    assert (totals.update_square / totals.weights_square) ** 0.5 == pytest.approx(ratio, rel=1e-4)
