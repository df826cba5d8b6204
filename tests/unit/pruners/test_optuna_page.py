"""The example on the Optuna page is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def test_the_example_on_the_optuna_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "optuna.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], "docs/optuna.md", "exec"), {})
    assert "PRUNED" in capsys.readouterr().out


def test_every_pruner_and_every_parameter_of_ours_is_on_the_pruner_page() -> None:
    from sweeper.pruners.compose import GUARDS, OURS, known_pruners, parameters_of

    page = (DOCS / "pruners.md").read_text()
    missing = [name for name in known_pruners() if f"`{name}`" not in page]
    missing += [f"{n}.{key}" for n in (*GUARDS, *OURS) for key in parameters_of(n) if f"`{key}`" not in page]
    assert missing == []
