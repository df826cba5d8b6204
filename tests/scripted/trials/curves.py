"""What a scripted trial measures: a formula's curve, or the recorded one of its cell where ``SCRIPTED_CURVES`` says.

Recorded curves are stretched over a trial's milestones, or, where ``SCRIPTED_OWN_ENDS`` is set, read point by point:
the trial then ends where its curve does.
"""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path

from sweeper.core.config import TrainConfig

Signals = tuple[float, float, float]
"""Objective, training loss, gradient norm."""
Key = tuple[int, float, int, str, int]


def signals(train: TrainConfig, milestone: int, milestones: int, samples: int) -> Signals:
    """Return what the cell measures at a milestone; a recorded curve is read at the same share of its length."""
    if "SCRIPTED_CURVES" not in os.environ:
        loss = _formula(train, milestone, samples)
        return loss, loss, loss / 2
    curve = _curve(train)
    return curve[len(curve) * milestone // ends_after(train, milestones) - 1]


def ends_after(train: TrainConfig, milestones: int) -> int:
    """Return at which of so many milestones the cell ends."""
    return len(_curve(train)) if "SCRIPTED_OWN_ENDS" in os.environ else milestones


def _curve(train: TrainConfig) -> list[Signals]:
    rank = 0 if train.lora is None else train.lora.rank
    key = train.batch_size, train.learning_rate, train.warmup_samples or 0, train.schedule, rank
    return _recorded(os.environ["SCRIPTED_CURVES"])[key]


@cache
def _recorded(path: str) -> dict[Key, list[Signals]]:
    found = {}
    for line in Path(path).read_text().splitlines()[1:]:
        row = json.loads(line)
        config, curve = row["config"], row["curve"]
        key = config["batch_size"], config["learning_rate"], config["warmup_samples"], config["schedule"]
        key += (config.get("lora_rank", 0),)
        found[key] = [(point["objective"], point["train_loss"], point["grad_norm"]) for point in curve]
    return found


def _formula(train: TrainConfig, milestone: int, samples: int) -> float:
    rate, batch = train.learning_rate, train.batch_size
    if rate >= 1:
        return math.nan if milestone > 2 else 50.0 * milestone
    floor = 1 + (math.log10(rate) + 4) ** 2 + 0.1 * (math.log2(batch) - 5) ** 2
    # A seed moves all cells alike, and each a little by itself; seed 0 moves none.
    luck = 0.05 * math.sin(train.seed) + 0.001 * math.sin(train.seed * batch)
    return floor + luck + 4 * math.exp(-samples / 300)
