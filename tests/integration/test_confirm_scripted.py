"""The leaders run again with fresh seeds: killed in the middle, resumed, and told of everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from test_sweep_scripted import Sweeps, logged_points

from sweeper.core.lifecycle import TrialState

SMALL = ("--set", "grid={batch_size: [32, 64], learning_rate: [1e-4, 1e-3, 1]}")
pytestmark = pytest.mark.long


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Sweeps]:
    found = Sweeps(tmp_path)
    yield found
    found.end()


def test_confirm_survives_kill_9_and_says_whether_the_first_is_first(sweeps: Sweeps, tmp_path: Path) -> None:
    code, out, err = sweeps.run("run", "space.yaml", "--sweep", "leaders", "--plain", *SMALL)
    assert code == 0, err
    assert "one run each: the noise between seeds is not known" in out
    grid = sweeps.cells("leaders")

    asked = ("confirm", "leaders", "--top", "2", "--seeds", "2", "--plain")
    driver = sweeps.start(*asked, faults={"b64-lr1e-4": "slow"})
    sweeps.wait_for("leaders", lambda cells: "b64-lr1e-4-s1" in cells and cells["b64-lr1e-4-s1"].samples_seen > 0)
    driver.kill()
    driver.communicate()
    code, out, err = sweeps.run("resume", "leaders", "--plain")
    assert code == 0, err

    cells = sweeps.cells("leaders")
    assert {name: repr(cells[name]) for name in grid} == {name: repr(cell) for name, cell in grid.items()}
    fresh = {name: cell for name, cell in cells.items() if name not in grid}
    assert set(fresh) == {f"{name}-s{seed}" for name in ("b32-lr1e-4", "b64-lr1e-4") for seed in (1, 2)}
    assert all(cell.state is TrialState.COMPLETE for cell in fresh.values()), "none of them is pruned"
    assert fresh["b64-lr1e-4-s1"].attempts == 2
    for name, steps in logged_points(tmp_path / "sweeps/leaders").items():
        if name in fresh:
            assert len(steps) == len(set(steps)) == 8, "every milestone once"

    verdict = "b32-lr1e-4: confirmed"
    assert f"confirm {verdict}" in out
    code, out, err = sweeps.run("status", "leaders")
    assert f"confirm {verdict}" in out
    assert "6 cells: 4 ran to the end, 2 pruned" in out
    best = yaml.safe_load((tmp_path / "sweeps/leaders/best.yaml").read_text())["provenance"]
    assert (best["trial"], best["confirmation"], best["objective"]["runs"]) == ("b32-lr1e-4", "confirmed", 2)
    mean = sum(fresh[f"b32-lr1e-4-s{seed}"].objective or 0.0 for seed in (1, 2)) / 2
    assert best["objective"]["value"] == pytest.approx(mean)

    code, out, err = sweeps.run(*asked)
    assert code == 0, err
    assert {name: repr(cell) for name, cell in sweeps.cells("leaders").items()} == {
        name: repr(cell) for name, cell in cells.items()
    }, "asked again, there is nothing left to run"
