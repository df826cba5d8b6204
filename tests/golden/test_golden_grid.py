"""The quickstart's cells, held still: names, order and fingerprints decide whether an old sweep can be resumed.

After a change on purpose: ``python tests/golden/test_golden_grid.py`` writes the file anew; review the difference.
"""

from __future__ import annotations

from pathlib import Path

from sweeper.adapters.yaml_space import load_space

HERE = Path(__file__).parent
GOLDEN = HERE / "quickstart_cells.txt"


def rendered() -> str:
    _, cells = load_space(HERE.parents[1] / "search_spaces" / "quickstart.yaml")
    return "".join(f"{cell.fingerprint} {cell.name}\n" for cell in cells)


def test_the_quickstart_expands_to_the_same_cells_as_ever() -> None:
    assert rendered() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(rendered())
