"""Planning the cells of a sweep from what was found out about its model and data."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.adapters.yaml_space import load_space
from sweeper.core.errors import RecordError
from sweeper.planned import facts_key, plan_cells

SPACE = """\
sweep: demo
model: {path: m}
data: {train: t, test: {new: n}}
grid: {batch_size: [16, 64], learning_rate: [1e-4]}
"""


def test_facts_of_other_configs_are_refused_by_the_cell_that_has_none(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    cells = load_space(tmp_path / "space.yaml")[1]
    facts = {facts_key(cells[0].config): {"train_samples": 640, "parameters": 1}}
    assert [planned.cell for planned in plan_cells(cells, facts)] == list(cells)
    with pytest.raises(RecordError, match=f"model and data of cell {cells[0].name}: .* other keys"):
        plan_cells(cells, {"what another version wrote": facts[facts_key(cells[0].config)]})
