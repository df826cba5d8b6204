"""Trainers of the user's own: what a search space says of them, and what a command is told of its cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.adapters.yaml_space import load_space
from sweeper.core.config import TrialConfig, canonical_json
from sweeper.core.derive import derive, infeasible_reason
from sweeper.core.errors import InputError
from sweeper.core.program import fill_in, processes_of
from sweeper.core.space import Cell


def cells(
    folder: Path, trial: str, grid: str = "batch_size: [16], learning_rate: [1e-3]", more: str = ""
) -> list[Cell]:
    text = f"sweep: own\ntrial: {{{trial}}}\ntrain: {{ranks: 2}}\ngrid: {{{grid}}}\n{more}"
    (folder / "space.yaml").write_text(text)
    return list(load_space(folder / "space.yaml")[1])


COMMAND = "train_samples: 100, command: 'train {learning_rate} {batch_size_per_rank} --x={settings.x} {{x}} {config}'"


def filled(config: TrialConfig) -> list[str]:
    assert config.trial is not None
    places = {"python": "py", "config": "/c.json", "output": "/out"}
    return fill_in(config.trial, config, derive(config.train, config.trial.train_samples), places)


def test_a_command_is_told_of_its_cell_without_a_shell(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, COMMAND + ", settings: {x: 'a b; rm'}")
    assert filled(cell.config) == ["train", "0.001", "8", "--x=a b; rm", "{x}", "/c.json"]
    assert processes_of(cell.config) == 1


def test_settings_can_be_axes_and_set_cells_apart(tmp_path: Path) -> None:
    found = cells(tmp_path, COMMAND, "batch_size: [16], learning_rate: [1e-3], settings.x: [0.1, 0.2]")
    assert [filled(cell.config)[3] for cell in found] == ["--x=0.1", "--x=0.2"]
    assert [cell.name for cell in found] == ["b16-lr1e-3-x=0.1", "b16-lr1e-3-x=0.2"]
    assert len({cell.fingerprint for cell in found}) == 2


def test_a_batch_that_cannot_be_shared_out_is_infeasible_where_a_share_is_asked_for(tmp_path: Path) -> None:
    (uneven,) = cells(tmp_path, COMMAND + ", settings: {x: 1}", "batch_size: [15], learning_rate: [1e-3]")
    assert "no multiple of the 2 ranks" in str(infeasible_reason(uneven.config, 100))
    (whole,) = cells(tmp_path, "train_samples: 100, command: train", "batch_size: [15], learning_rate: [1e-3]")
    assert infeasible_reason(whole.config, 100) is None


def test_a_native_trial_keeps_the_text_that_its_fingerprint_is_made_of() -> None:
    space = Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml"
    assert '"trial"' not in canonical_json(load_space(space)[1][0].config)


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        ("train_samples: 9", "give either function or command"),
        ("train_samples: 9, function: 'a:b', command: x", "give either function or command"),
        ("train_samples: 0, function: 'a:b'", "must be at least 1"),
        ("function: 'a:b'", "'train_samples' is required"),
        ("train_samples: 9, function: a.b", "must be MODULE:FUNCTION"),
        ("train_samples: 9, function: 'a:b', signals: mlflow", "only a command has signals: mlflow"),
        ("train_samples: 9, command: 'x {learning_rat}'", "did you mean 'learning_rate'"),
        ("train_samples: 9, command: 'x {settings.y}'", "nothing fills in {settings.y}"),
        ("train_samples: 9, command: 'x {seed:>3}'", "takes no format"),
        ("train_samples: 9, command: 'x \"a'", "cannot be split into words"),
        ("train_samples: 9, command: x, metrics: {loss: l}", "only signals: mlflow has it"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path: Path, trial: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        cells(tmp_path, trial)
    assert message in str(caught.value)
    assert "space.yaml:" in str(caught.value)


def test_checkpoints_are_refused_and_other_scores_than_native_ones_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not checkpointed"):
        cells(tmp_path, "train_samples: 9, command: x", more="resources: {checkpoint_every: 1}")
    assert cells(tmp_path, "train_samples: 99, command: x", more="objective: {metric: bleu, direction: maximize}")


def test_a_key_that_a_cell_leaves_empty_cannot_be_filled_in(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, "train_samples: 99, command: 'x {warmup_ratio}'")
    with pytest.raises(InputError, match="is empty in this cell"):
        filled(cell.config)
