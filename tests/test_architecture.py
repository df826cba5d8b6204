"""The floors of the house: imports point down, and heavy libraries stay behind their adapter."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "sweeper.core": 0,
    "sweeper.pruners": 1,
    "sweeper.ports": 1,
    "sweeper.judge": 1,
    "sweeper.spool": 1,
    "sweeper.trial": 1,
    "sweeper.integrations": 1,
    "sweeper.adapters": 2,
    "sweeper.programs": 3,
    "sweeper.api": 3,
    "sweeper.planned": 3,
    "sweeper.planning": 3,
    "sweeper.doctor": 3,
    "sweeper.init": 3,
    "sweeper.proposer": 3,
    "sweeper.drive": 3,
    "sweeper.remote": 3,
    "sweeper.shipment": 3,
    "sweeper.promotions": 3,
    "sweeper.job": 3,
    "sweeper.control": 3,
    "sweeper.clones": 3,
    "sweeper.sweep": 3,
    "sweeper.confirm": 3,
    "sweeper.export": 3,
    "sweeper.register": 3,
    "sweeper.replay": 3,
    "sweeper.report": 3,
    "sweeper.imports": 3,
    "sweeper.console": 3,
    "sweeper.arguments": 4,
    "sweeper.commands": 4,
    "sweeper.cli": 4,
}
"""A module may import its own floor and those below."""

OWNERS = {
    "ray": ("sweeper/adapters/ray/",),
    "mlflow": ("sweeper/adapters/mlflow/",),
    "yaml": ("sweeper/adapters/yaml_space.py", "sweeper/drive.py", "sweeper/export/", "trials/"),
    "optuna": ("sweeper/adapters/study", "sweeper/pruners/", "sweeper/replay/"),
    "torch": ("trials/",),
    "transformers": ("trials/", "sweeper/integrations/"),
    "rich": ("sweeper/console/",),
    "pandas": ("sweeper/api.py",),
    "matplotlib": ("sweeper/replay/plot.py", "sweeper/report/draw"),
    "jinja2": ("sweeper/report/page.py",),
}
"""Where each foreign library may be imported, also inside functions."""


def modules() -> Iterator[tuple[Path, str]]:
    for package in ("sweeper", "trials"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield path, ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor_of(module: str) -> int | None:
    matches = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return FLOORS[max(matches, key=len)] if matches else None


ALL = list(modules())


@pytest.mark.parametrize(("path", "module"), ALL, ids=[module for _, module in ALL])
def test_imports_point_down(path: Path, module: str) -> None:
    own = 4 if module in ("sweeper", "sweeper.__main__") else floor_of(module)
    if module.startswith("trials"):
        wrong = [name for name in imports(path) if name.startswith("sweeper") and floor_of(name) not in (0, None)]
        assert not wrong, f"trials may import sweeper.core alone, not {wrong}"
        return
    assert own is not None, f"{module} has no floor: enter it in FLOORS"
    wrong = [name for name in imports(path) if (floor_of(name) or 0) > own]
    assert not wrong, f"{module} (floor {own}) imports upward: {wrong}"


@pytest.mark.parametrize(("path", "module"), ALL, ids=[module for _, module in ALL])
def test_foreign_libraries_stay_with_their_owner(path: Path, module: str) -> None:
    relative = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or relative.startswith(owners), f"{relative} imports {name}"


def test_only_the_rank_actor_touches_trials() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path, module in ALL
        if module.startswith("sweeper") and any(name.split(".")[0] == "trials" for name in imports(path))
    }
    assert users <= {"sweeper/adapters/ray/rank.py"}


def test_the_core_needs_the_standard_library_and_numpy_only() -> None:
    import sys

    allowed = set(sys.stdlib_module_names) | {"numpy", "sweeper"}
    for path, module in ALL:
        if module.startswith("sweeper.core"):
            foreign = {name.split(".")[0] for name in imports(path)} - allowed
            assert not foreign, f"{module} imports {foreign}"
