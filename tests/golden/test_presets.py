"""The presets against Table 1 of "Unveiling the Secret Recipe" (arXiv 2412.13337), number by number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sweeper.adapters.yaml_space import load_space
from sweeper.core.config import TrainConfig
from sweeper.core.derive import derive
from sweeper.core.space import Cell

SPACES = Path(__file__).parents[2] / "search_spaces"
PAPER_SAMPLES = 825_487
"""308,343 instructions, 231,178 on knowledge and 285,966 skills."""
EVERYWHERE = {"adam_beta1": 0.9, "adam_beta2": 0.95}
TABLE_1: dict[str, dict[str, Any]] = {
    "tulu": {"batch": {128}, "rates": {2e-5}, "epochs": 3, "schedule": "linear", "warmup_ratio": 0.03},
    "tulu++": {"batch": {128}, "rates": {3e-5}, "epochs": 4, "schedule": "linear", "warmup_ratio": 0.03},
    "lab": {"batch": {3840, 7680}, "rates": {2e-5}, "epochs": 10, "schedule": "constant", "warmup_steps": 25},
}
BATCHES = {128, 3840, 7680}
RATES = {1e-6, 5e-6, 2e-5, 3e-5, 4e-5, 6e-5, 8e-5, 1e-4}
WARMUP_STEPS = {0, 25, 100}
SLICES: dict[str, dict[str, set[Any]]] = {
    "granite-7b-lab": {"batch_size": {3840, 7680}, "learning_rate": {2e-5, 3e-5, 4e-5, 6e-5, 8e-5, 1e-4}},
    "granite-7b-tulu": {"batch_size": {128}, "learning_rate": {2e-5, 3e-5}},
    "granite-3b-strategy": {"batch_size": {3840, 7680}, "data.strategy": {"stacked", "phased"}},
    "mistral-7b": {"batch_size": {128, 3840}, "learning_rate": {1e-6, 5e-6, 2e-5}},
    "llama-3b-lab": {"batch_size": {3840}, "data.strategy": {"stacked", "phased"}},
    "llama-3b-tulu": {"batch_size": {128}, "learning_rate": {2e-5}},
    "warmup": {"batch_size": {3840, 7680}, "warmup_steps": WARMUP_STEPS},
    "schedule": {"batch_size": {3840, 7680}, "schedule": {"constant", "cosine", "linear"}},
    "strategy": {"batch_size": {128, 3840}, "data.strategy": {"stacked", "phased"}},
    "full": {
        "batch_size": BATCHES,
        "learning_rate": RATES,
        "warmup_steps": WARMUP_STEPS,
        "schedule": {"constant", "cosine"},
    },
}


def cells_of(name: str) -> tuple[Cell, ...]:
    return load_space(SPACES / f"{name}.yaml")[1]


@pytest.mark.parametrize("name", TABLE_1)
def test_a_preset_is_its_column_of_table_1(name: str) -> None:
    expected, cells = dict(TABLE_1[name]), cells_of(name)
    assert {cell.config.train.batch_size for cell in cells} == expected.pop("batch")
    assert {cell.config.train.learning_rate for cell in cells} == expected.pop("rates")
    for cell in cells:
        for key, value in {**expected, **EVERYWHERE}.items():
            assert getattr(cell.config.train, key) == value, f"{cell.name}: {key}"
        assert cell.config.data.strategy == "stacked"


@pytest.mark.parametrize(("name", "steps"), [("tulu", [19_347]), ("lab", [2_150, 1_075])])
def test_a_preset_takes_as_many_steps_on_the_papers_data_as_the_paper(name: str, steps: list[int]) -> None:
    taken = [derive(cell.config.train, PAPER_SAMPLES).total_steps for cell in cells_of(name)]
    assert taken == pytest.approx(steps, rel=2e-3)


def test_slices_hold_the_papers_values_and_no_others() -> None:
    assert {path.stem for path in (SPACES / "paper").glob("*.yaml")} == set(SLICES)
    for name, axes in SLICES.items():
        space, cells = load_space(SPACES / "paper" / f"{name}.yaml")
        assert {axis: set(values) for axis, values in space.grid.items()} == axes, name
        assert all(cell.config.train.batch_size in BATCHES for cell in cells)
        assert all(cell.config.train.learning_rate in RATES for cell in cells)


@pytest.mark.parametrize(("name", "whole"), [("lab-scaled", "lab"), ("tulu-scaled", "tulu")])
def test_a_scaled_twin_keeps_the_ratio_of_batch_to_data_and_all_else(name: str, whole: str) -> None:
    samples = 8_000
    for twin, cell in zip(cells_of(name), cells_of(whole), strict=True):
        exact = cell.config.train.batch_size / PAPER_SAMPLES * samples
        assert twin.config.train.batch_size == round(exact)
        assert without_batch(twin.config.train) == without_batch(cell.config.train)


def without_batch(train: TrainConfig) -> str:
    return re.sub(r"batch_size=\d+", "", repr(train))


@pytest.mark.parametrize("size", ["0.5b", "1.5b", "3b", "7b"])
@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_a_template_exists_and_its_gangs_fill_the_gpus(size: str, gpus: int) -> None:
    for cell in cells_of(f"templates/{size}-{gpus}gpu"):
        assert gpus % cell.config.train.ranks == 0


def test_every_file_says_in_its_head_how_it_is_used_or_where_it_comes_from() -> None:
    for path in SPACES.rglob("*.yaml"):
        head = path.read_text().split("\nsweep:")[0]
        assert "sweeper " in head or "arXiv 2412.13337" in head, path
