"""Several real raylets on one machine: gangs over two nodes, and a node that dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.drill.check import cells, sweep_folder, winner
from benchmarks.drill.place import Place
from sweeper.core.lifecycle import TrialState

SPACE = """\
sweep: nodes
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}, max_length: 64}
train: {engine: fsdp, ranks: 2, epochs: 1}
eval: {milestones: 4}
pruner: []
grid: {batch_size: [64], learning_rate: [5.0e-4, 2.0e-3]}
resources: {nodes_per_trial: 2, checkpoint_every: 1, max_failures: 3}
"""
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all tests: Ray reads its token once in a process."""
    before, folder = dict(os.environ), tmp_path_factory.mktemp("nodes")
    place = Place(folder, scripted=False, slots=1)
    os.environ["SWEEPER_HOME"] = str(folder / "sweeps")
    place.start(mlflow=False)
    yield place
    place.close()
    os.environ.clear()
    os.environ.update(before)


def start(place: Place, name: str, *more: str) -> subprocess.Popen[str]:
    (place.folder / "space.yaml").write_text(SPACE)
    words = ["run", str(place.folder / "space.yaml"), "--sweep", name, "--plain", "--address", place.address, *more]
    command = [sys.executable, "-m", "sweeper.cli", *words]
    return subprocess.Popen(command, cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_gang_trains_over_two_nodes_and_outlives_the_death_of_one(grounds: Place) -> None:
    calm = start(grounds, "calm")
    out, err = calm.communicate(timeout=400)
    assert calm.returncode == 0, out + err

    driver = start(grounds, "struck")
    folder = sweep_folder(grounds.folder, "struck")
    deadline = time.monotonic() + 300
    while not (folder.study.exists() and any(cell.samples_seen for cell in cells(folder).values())):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    grounds.kill_node(1)
    out, err = driver.communicate(timeout=400)
    assert driver.returncode == 0, out + err
    assert "is tried again: crash" in out
    ended = cells(folder)
    assert {cell.state for cell in ended.values()} == {TrialState.COMPLETE}
    assert winner(folder) == winner(sweep_folder(grounds.folder, "calm"))
    for name, cell in cells(sweep_folder(grounds.folder, "calm")).items():
        assert ended[name].objective == pytest.approx(cell.objective, rel=1e-5)
    assert grounds.placement_groups() == 0


def test_gangs_of_different_sizes_share_the_nodes_and_what_never_fits_is_refused(grounds: Place) -> None:
    train = "train={engine: fsdp, epochs: 0.25, learning_rate: 0.002}"
    mixed = ["--set", "grid={ranks: [1, 2], batch_size: [64]}", "--set", train]
    driver = start(grounds, "mixed", *mixed, "--set", "resources.nodes_per_trial=null")
    out, err = driver.communicate(timeout=400)
    assert driver.returncode == 0, out + err
    assert len(cells(sweep_folder(grounds.folder, "mixed"))) == 2

    driver = start(grounds, "packed", "--set", "resources.nodes_per_trial=1")
    out, err = driver.communicate(timeout=100)
    assert driver.returncode == 2, out + err
    assert "a gang of 2 ranks needs 2 x (1 CPU) on one node; the cluster has 2 CPUs" in err
    assert not sweep_folder(grounds.folder, "packed").path.exists()
