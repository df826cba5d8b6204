"""The Python API before anything is run."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import sweeper
from sweeper.core.errors import InputError

HEAVY = "torch ray optuna mlflow pandas transformers yaml numpy rich"
PLAIN = {
    "sweep": "own",
    "trial": {"train_samples": 100, "command": "true"},
    "grid": {"batch_size": (16, 32), "learning_rate": [1e-5]},
}


def test_importing_sweeper_loads_nothing_heavy_and_its_trial_side_neither() -> None:
    check = f"import sys, sweeper; heavy = set('{HEAVY}'.split()); assert not heavy & set(sys.modules)"
    # The core may use numpy.
    trial = "; import sweeper.trial; assert not (heavy - {'numpy'}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check + trial], check=True)


def test_no_module_has_the_name_of_a_public_function() -> None:
    modules = {module.name for module in pkgutil.iter_modules(sweeper.__path__)}
    assert "api" in modules
    assert not modules & set(sweeper.__all__)


def test_the_package_hands_out_the_functions_of_its_api_and_nothing_else() -> None:
    from sweeper import api

    assert (sweeper.plan, sweeper.run) == (api.plan, api.run)
    assert {"load_space", "open", "plan", "run"} <= set(dir(sweeper))
    with pytest.raises(AttributeError, match="no attribute 'stop'"):
        sweeper.stop  # noqa: B018


def test_a_space_comes_from_a_file_a_name_or_its_sections(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "sweep: own\ntrial: {train_samples: 100, command: 'true'}\n"
        "grid: {batch_size: [16, 32], learning_rate: [1e-5]}\n"
    )
    from_file, from_sections = sweeper.load_space(tmp_path / "a.yaml"), sweeper.load_space(PLAIN)
    assert [cell.fingerprint for cell in from_file.cells] == [cell.fingerprint for cell in from_sections.cells]
    assert repr(from_sections) == "search space own: 2 cells = batch_size (2) x learning_rate (1)"
    assert len(sweeper.load_space("quickstart").cells) == 30


def test_overrides_are_a_mapping_or_what_the_command_line_takes() -> None:
    mapping = {"train.epochs": 2, "grid.learning_rate": [1e-5, 3e-4]}
    one = sweeper.load_space(PLAIN, mapping)
    other = sweeper.load_space(PLAIN, ["train.epochs=2", "grid.learning_rate=[1e-5, 3e-4]"])
    assert one.cells == other.cells
    assert [cell.config.train.learning_rate for cell in one.cells[:2]] == [1e-5, 3e-4]


def test_a_wrong_section_is_refused_by_its_place() -> None:
    with pytest.raises(InputError, match=r"own:.*grid.batch_sise"):
        sweeper.load_space({**PLAIN, "grid": {"batch_sise": [1]}})


def test_a_plan_is_a_table_of_cells() -> None:
    plan = sweeper.plan(PLAIN, gpu="cpu", gpus=2)
    assert list(plan.cells["cell"]) == ["b16-lr1e-5", "b32-lr1e-5"]
    assert list(plan.cells["steps"]) == [7, 4]
    assert "2 cells: 2 can run" in repr(plan)
