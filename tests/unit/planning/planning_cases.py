"""Facts of made-up models and data, and search spaces on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.adapters.yaml_space import load_space
from sweeper.core.roofline import Speed
from sweeper.core.space import SearchSpace
from sweeper.planned import PlannedCell, facts_key, plan_cells
from sweeper.planning.cells import CellPlan, CellPlanner
from sweeper.planning.hardware import Hardware, hardware

SEVEN = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
SEVEN |= {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
FACTS: dict[str, Any] = {
    "train_samples": 10_000,
    "lengths": {
        "samples": 10_000,
        "tokens": 2_000_000,
        "loss_tokens": 1_000_000,
        "shown": [[length, length // 2] for length in range(100, 301)],
    },
    "test": {"test": {"samples": 100, "tokens": 20_000}},
    "model": {"config": SEVEN, "parameters": None},
}
SPACE = """\
sweep: demo
model: {path: m}
data: {train: t, test: {new: n}}
train: {precision: bf16, ranks: 8, activation_checkpointing: true, max_tokens_per_rank: 8192}
grid: {batch_size: [64, 256, 1024], learning_rate: [1e-5, 2e-5]}
"""


def loaded(folder: Path, *overrides: str) -> tuple[SearchSpace, tuple[PlannedCell, ...]]:
    (folder / "space.yaml").write_text(SPACE)
    space, cells = load_space(folder / "space.yaml", overrides)
    return space, plan_cells(cells, {facts_key(cell.config): FACTS for cell in cells})


def plans(
    planned: Sequence[PlannedCell], where: Hardware | None = None, facts: dict[str, Any] | None = None
) -> list[CellPlan]:
    found = where or hardware("h100", None, 16)
    planner = CellPlanner(found, Speed(compute=2.0), gpus_per_rank=1.0)
    return [planner.plan(each, facts or FACTS) for each in planned]
