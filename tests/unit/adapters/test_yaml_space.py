"""Search spaces from YAML: the exact grid, or one message with file, line and key."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.adapters.yaml_space import load_space, parse
from sweeper.core.config import fingerprint
from sweeper.core.errors import InputError
from sweeper.core.space import cell_name, short_number

SPACE = """\
sweep: demo
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}}
train: {epochs: 2}
grid:
  batch_size: [16, 64]
  learning_rate: [2e-5, 1e-3]
  warmup_steps: [0, 5]
"""


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(SPACE)
    return path


def test_every_combination_is_one_cell_in_file_order(space_file: Path) -> None:
    space, cells = load_space(space_file)
    assert [cell.name for cell in cells] == [
        "b16-lr2e-5-w0",
        "b16-lr2e-5-w5",
        "b16-lr1e-3-w0",
        "b16-lr1e-3-w5",
        "b64-lr2e-5-w0",
        "b64-lr2e-5-w5",
        "b64-lr1e-3-w0",
        "b64-lr1e-3-w5",
    ]
    assert len({cell.fingerprint for cell in cells}) == 8
    assert all(cell.config.train.epochs == 2.0 for cell in cells)
    assert all(cell.fingerprint == fingerprint(cell.config) for cell in cells)
    assert not space.objective.maximizes


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("epochs: 2", "epoch: 2", 4, "train.epoch: unknown key, got 'epoch' (did you mean 'epochs'?)"),
        ("epochs: 2", "epochs: two", 4, "train.epochs: must be a number, got 'two'"),
        ("[16, 64]", "[]", 6, "grid.batch_size: an axis needs at least one value"),
        ("[16, 64]", "[16, 16]", 6, "grid.batch_size.1: value is repeated"),
        ("[2e-5, 1e-3]", "[2e-5, -1]", 7, "grid.learning_rate.1: must be finite and above 0, got -1.0"),
        ("warmup_steps", "warm_steps", 8, "unknown axis, got 'warm_steps' (did you mean 'warmup_steps'?)"),
        ("grid:", "gird:", 5, "unknown key, got 'gird' (did you mean 'grid'?)"),
        ("sweep: demo", "sweep: a/b", 1, "sweep: must be letters"),
        ("train: {epochs: 2}", "objective: {metric: exact_match}", 4, "'exact_match' is not measured"),
        ("train: {epochs: 2}", "objective: {metric: heldout_loss/old}", 4, "there is no test set 'old'"),
        (
            "train: {epochs: 2}",
            "objective: {metric: answer_match/t}",
            4,
            "add it to eval.metrics or eval.final_metrics",
        ),
        ("train: {epochs: 2}", "eval: {metrics: [lm_eval]}", 4, "eval.lm_eval_tasks: metric lm_eval needs"),
        ("train: {epochs: 2}", "eval: {lm_eval_tasks: [a]}", 4, "eval.lm_eval_tasks: is not measured"),
        ("train: {epochs: 2}", "eval: {final_metrics: [heldout_loss]}", 4, "is measured at every milestone already"),
        ("train: {epochs: 2}", "eval: {final_metrics_at: [3]}", 4, "eval.final_metrics_at: needs final_metrics"),
        ("train: {epochs: 2}", "train: {batch_size: 8}", 4, "train.batch_size: is both fixed and an axis"),
        ("  warmup_steps", "  batch_size", 8, "stands twice, first on line 6"),
        ("train: {epochs: 2}", "train: {epochs: 2", 5, "not valid YAML"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_key(space_file: Path, old: str, new: str, line: int, message: str) -> None:
    space_file.write_text(SPACE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_space(space_file)
    assert f"{space_file}:{line}" in str(caught.value)
    assert message in str(caught.value)


def test_set_changes_one_key_and_is_named_when_wrong(space_file: Path) -> None:
    space, cells = load_space(space_file, ["train.epochs=3", "grid.batch_size=[32]", "pruner=[]"])
    assert cells[0].config.train.epochs == 3.0
    assert len(cells) == 4
    assert space.pruner == ()
    with pytest.raises(InputError, match=r"^--set train\.epoch=3: unknown key"):
        load_space(space_file, ["train.epoch=3"])
    with pytest.raises(InputError, match="key=value"):
        load_space(space_file, ["train.epochs"])


def test_files_of_an_evaluation_are_found_from_any_folder(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks run elsewhere than the command line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mmlu.jsonl").touch()
    (tmp_path / "tasks").mkdir()
    chosen = "{multiple_choice: {m: mmlu.jsonl}, lm_eval_path: tasks, lm_eval_tasks: [a], "
    chosen += "few_shot: 1, few_shot_from: {m: mmlu.jsonl}, final_metrics: [multiple_choice, lm_eval]}"
    found = load_space(space_file, [f"eval={chosen}"])[0].eval
    assert found.multiple_choice == found.few_shot_from == {"m": str(tmp_path / "mmlu.jsonl")}
    assert found.lm_eval_path == str(tmp_path / "tasks")


def test_a_missing_file_and_one_that_is_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load_space(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.yaml: cannot be read as text"):
        load_space(tmp_path / "binary.yaml")


def test_yaml_can_build_no_objects(space_file: Path) -> None:
    space_file.write_text("sweep: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load_space(space_file)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(parse(text, "text")[1], dict)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-5, "2e-5"), (1e-3, "1e-3"), (0.03, "0.03"), (3840, "3840"), (1.5e-4, "1.5e-4"), (0, "0"), (1e7, "1e7")],
)
def test_numbers_in_names_have_their_shortest_usual_form(value: float, text: str) -> None:
    assert short_number(value) == text


def test_other_axes_are_named_by_their_key() -> None:
    axes = {"learning_rate": 2e-5, "schedule": "cosine", "data.max_length": 512, "seed": 1}
    assert cell_name(axes) == "lr2e-5-cosine-max_length=512-s1"
