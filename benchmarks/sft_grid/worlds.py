"""The worlds of the recorded grids: a model, its data and a search space each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sweeper.adapters.yaml_space import load_space
from sweeper.core.space import Cell, SearchSpace
from trials.world.paths import make_data, make_model
from trials.world.spec import WorldSpec

SPACES: Final = Path(__file__).parent / "spaces"
WIDE: Final = WorldSpec(name="wide", seed=7, num_new_entities=96, num_train=4096, hidden_size=96, num_layers=3)


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """One of them."""

    overrides: Callable[[Path], list[str]]
    """Takes the folder of real data; returns what is set in the space besides what its file says."""
    seeds: tuple[int, ...] = (0,)
    is_real: bool = False
    """Whether it needs the folder of real data."""


def _wide(_: Path) -> list[str]:
    data = make_data(WIDE)
    tests = f"{{new: {data}/new.jsonl, old: {data}/old.jsonl}}"
    return [f"model.path={make_model(WIDE)}", f"data.train={data}/train.jsonl", f"data.test={tests}"]


def _mawps(data: Path) -> list[str]:
    folder = data.resolve() / "mawps_svamp"
    return [f"data.train={folder}/train.jsonl", f"data.test.new={folder}/test.jsonl"]


WORLDS: Final = {
    "facts": World(overrides=lambda _: [], seeds=(0, 1)),
    "wide": World(overrides=_wide),
    "mawps": World(overrides=_mawps, is_real=True),
}


def cells_of(name: str, seed: int, data: Path) -> tuple[SearchSpace, tuple[Cell, ...]]:
    """Return a world's space and cells with this seed of training."""
    return load_space(SPACES / f"{name}.yaml", [f"train.seed={seed}", *WORLDS[name].overrides(data)])
