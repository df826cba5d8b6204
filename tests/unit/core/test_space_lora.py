"""Keys of ``train.lora`` as axes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.adapters.yaml_space import load_space
from sweeper.core.errors import InputError

SPACE = """
sweep: lora
model: {path: builtin:quickstart}
data: {train: builtin:quickstart/train, test: builtin:quickstart/test}
train: {batch_size: 8, engine: single, lora: {alpha: 8}}
grid:
  learning_rate: [1e-3, 1e-4]
  lora.rank: [4, 16]
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "space.yaml"
    file.write_text(text)
    return file


def test_a_key_of_lora_is_an_axis_beside_fixed_ones(tmp_path: Path) -> None:
    _, cells = load_space(write(tmp_path, SPACE))
    loras = [cell.config.train.lora for cell in cells]
    assert [(one.rank, one.alpha) for one in loras if one] == [(4, 8.0), (16, 8.0)] * 2
    assert [cell.name for cell in cells[:2]] == ["lr1e-3-rank=4", "lr1e-3-rank=16"]
    _, bare = load_space(write(tmp_path, SPACE.replace(", lora: {alpha: 8}", "")))
    assert {cell.config.train.lora.alpha for cell in bare if cell.config.train.lora} == {32.0}


def test_training_all_weights_or_adapters_is_an_axis(tmp_path: Path) -> None:
    text = SPACE.replace(", lora: {alpha: 8}", "").replace("lora.rank: [4, 16]", "lora: [null, {rank: 4}]")
    _, cells = load_space(write(tmp_path, text))
    assert [cell.config.train.lora is None for cell in cells] == [True, False] * 2
    assert cells[1].config.train.lora is not None
    assert cells[1].config.train.lora.rank == 4


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ("[4, 16]", "[4, 0]", 8, r"grid\.lora\.rank\.1: must be at least 1, got 0"),
        ("lora.rank", "lora.rnk", 8, r"unknown axis, got 'lora\.rnk' \(did you mean 'lora\.rank'\?\)"),
        ("{alpha: 8}", "{rank: 8}", 5, r"train\.lora\.rank: is both fixed and an axis"),
        ("{alpha: 8}", "true", 5, r"train\.lora: must be a mapping"),
        ("{alpha: 8}", "{alpha: -1}", 5, r"train\.lora\.alpha: must be finite and above 0"),
    ],
)
def test_a_mistake_is_refused_where_it_stands(tmp_path: Path, old: str, new: str, line: int, complaint: str) -> None:
    with pytest.raises(InputError, match=rf"space\.yaml:{line}: .*{complaint}"):
        load_space(write(tmp_path, SPACE.replace(old, new)))
