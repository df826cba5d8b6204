"""How much of what the ranks compute is data, and how long a step waits for it.

    python -m benchmarks.packing --data CHATS.jsonl [--wait] [--json]

The chats are tokenised with a byte-level BPE of 8,192 entries that is trained on them. Every optimizer step of a whole
epoch is planned, for each batch size, number of ranks and token limit. Four shares, each over the epoch and for its
worst step:

- fill: tokens of the slots that ranks compute, dummy work counted as slots;
- gang: tokens of the slots that ranks compute or wait, a rank with less to do counted as the one with the most;
- balance: mean of the ranks' slots in a micro-batch by their maximum, the lowest of all micro-batches;
- padded: as gang, with a row for each sample, which is what models get that cannot be packed.

``--wait`` trains instead: the builtin quickstart model and random-init models of 5 and 20 million parameters on the
chats, one rank, and prints which share of the steps' time went into data, and what a step takes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.throughput.setup import MAX_LENGTH, Setup
from benchmarks.throughput.world import SHAPES, make_world
from sweeper.core.config import DataConfig, EvalConfig, ModelConfig, TrainConfig, TrialConfig
from trials.order import Order
from trials.packing import Layout, plan
from trials.session import TrialSession

BATCH_SIZES: Final = (128, 512, 3840)
RANKS: Final = (1, 2, 4, 8)
TOKEN_LIMITS: Final = (2048, 8192, 32768)
WAITED_STEPS: Final = {"quickstart": 80, "cpu-5m": 8, "cpu-20m": 4}
"""The first half of them is off the clock: it holds what a process does once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """One plan of an epoch."""

    batch_size: int
    ranks: int
    max_tokens_per_rank: int
    steps: int
    micro_batches: int
    """Of all steps."""
    fill: float
    worst_fill: float
    gang: float
    worst_gang: float
    worst_balance: float
    padded: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """How long steps waited for data."""

    model: str
    batch_size: int
    data_wait_share: float
    step_ms: float


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL file of chats")
    parser.add_argument("--wait", action="store_true", help="train, and measure the wait for data")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    options = parser.parse_args()
    # Saving a model imports deepspeed where it is installed, which looks for a GPU and says so on stdout.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "cpu-5m"
        make_world(folder, SHAPES["cpu-5m"], options.data, seed=0)
        lengths = setup(folder).tokens().lengths
        if not options.json:
            print(f"{len(lengths)} samples of {lengths.mean():.0f} tokens in the mean, {lengths.max()} at most")
        if not options.wait:
            for batch_size, ranks, max_tokens in product(BATCH_SIZES, RANKS, TOKEN_LIMITS):
                show(shares(setup(folder, batch_size), ranks, max_tokens), options.json)
        else:
            for batch_size in (32, 128, 512):
                show(wait("quickstart", quickstart(batch_size)), options.json)
            for name in ("cpu-5m", "cpu-20m"):
                if not (Path(root) / name).exists():
                    make_world(Path(root) / name, SHAPES[name], options.data, seed=0)
                config = setup(Path(root) / name, 32).config(epochs=WAITED_STEPS[name] * 32 / len(lengths))
                show(wait(name, config), options.json)


def setup(folder: Path, batch_size: int = 128) -> Setup:
    """Return the throughput benchmark's setup on this folder."""
    return Setup(
        folder=str(folder),
        batch_size=batch_size,
        max_tokens_per_rank=8192,
        warmup_steps=0,
        steps=1,
        precision="fp32",
        device="cpu",
        seed=0,
    )


def shares(chosen: Setup, ranks: int, max_tokens: int) -> Shares:
    """Plan every whole step of one epoch."""
    tokens = chosen.tokens()
    order = Order(chosen.config(), tokens)
    steps = len(tokens) // chosen.batch_size
    batches = [tokens.lengths[order.batch(step, chosen.batch_size)] - 1 for step in range(steps)]
    packed = [slots_of(lengths, ranks, max_tokens, "packed") for lengths in batches]
    padded = [slots_of(lengths, ranks, max_tokens, "padded") for lengths in batches]
    used = np.array([lengths.sum() for lengths in batches])
    computed = np.array([slots.sum() for slots in packed])
    waited = np.array([slots.max(axis=1).sum() * ranks for slots in packed])
    return Shares(
        batch_size=chosen.batch_size,
        ranks=ranks,
        max_tokens_per_rank=max_tokens,
        steps=steps,
        micro_batches=sum(len(slots) for slots in packed),
        fill=float(used.sum() / computed.sum()),
        worst_fill=float((used / computed).min()),
        gang=float(used.sum() / waited.sum()),
        worst_gang=float((used / waited).min()),
        worst_balance=float(min((slots.mean(axis=1) / slots.max(axis=1)).min() for slots in packed)),
        padded=float(used.sum() / sum(slots.max(axis=1).sum() * ranks for slots in padded)),
    )


def slots_of(lengths: Any, ranks: int, max_tokens: int, layout: Layout) -> Any:
    """Return the slots that each rank computes, [micro-batch, rank]; dummy work is one slot."""
    planned = plan(lengths, max_tokens=max_tokens, ranks=ranks, layout=layout)
    return np.array([[max(1, rows.num_rows * rows.width) for rows in each] for each in planned])


def quickstart(batch_size: int) -> TrialConfig:
    """Return a trial of the builtin model."""
    return TrialConfig(
        model=ModelConfig(path="builtin:quickstart"),
        data=DataConfig(train=("builtin:quickstart/train",), max_length=MAX_LENGTH),
        train=TrainConfig(
            batch_size=batch_size,
            learning_rate=1e-4,
            engine="single",
            epochs=WAITED_STEPS["quickstart"] * batch_size / 3072,
        ),
    )


def wait(model: str, config: TrialConfig) -> Wait:
    """Train the trial to its end and return what the second half of it says."""
    session = TrialSession(rank=0, world_size=1, device="cpu")
    session.connect("env://")
    session.start(replace(config, eval=EvalConfig(milestones=2)))
    warm, measured = session.advance(), session.advance()
    session.close()
    assert warm is not None
    assert measured is not None
    return Wait(
        model=model,
        batch_size=config.train.batch_size,
        data_wait_share=measured.extra["data_wait_share"],
        step_ms=1000 * (measured.train_s - warm.train_s) / (measured.step - warm.step),
    )


def show(row: Shares | Wait, as_json: bool) -> None:
    """Print one row."""
    if as_json:
        print(json.dumps(asdict(row)), flush=True)
        return
    cells = (
        f"{key} {value:.2%}" if 0 < value <= 1 and isinstance(value, float) else f"{key} {value}"
        for key, value in asdict(row).items()
    )
    print("  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
