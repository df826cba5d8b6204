"""A gang over two hosts, each with a network and an address of its own, of which one dies or is out of reach."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))
import hosts
from hosts import Host

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from test_sweep_scripted import logged_points

from benchmarks.drill.check import cells, sweep_folder, winner
from sweeper.core.lifecycle import TrialState

PORT = 6379
STEPS = 48
SHORT_S, LONG_S = 8.0, 90.0
"""Ray gives a node up after five checks without an answer: 15 to 65 s by its defaults."""
SPACE = """\
sweep: hosts
model: {path: "builtin:quickstart"}
data: {train: builtin:quickstart/train, test: {new: builtin:quickstart/new}, max_length: 64}
train: {engine: fsdp, ranks: 2, epochs: 1}
eval: {milestones: 4}
pruner: []
grid: {batch_size: [64], learning_rate: [5.0e-4, 2.0e-3]}
resources: {nodes_per_trial: 2, checkpoint_every: 1, max_failures: 5}
"""
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not hosts.allowed(), reason="needs root, for network namespaces"),
]


class Grounds:
    """A Ray cluster of two hosts with one slot each."""

    def __init__(self, first: Host, second: Host, folder: Path) -> None:
        self.first, self.second, self.folder = first, second, folder
        self._started: list[subprocess.Popen[str]] = []
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "SWEEPER_HOME": str(folder / "sweeps"),
            "OMP_NUM_THREADS": "1",
        }
        own = ["--num-cpus", "1", "--block", "--node-ip-address"]
        at = ["--temp-dir", str(first.temp), "--port", str(PORT), "--include-dashboard", "false"]
        self._ray(first, "--head", *at, *own, first.address)
        self.join()

    def join(self) -> None:
        """Let the second host join the cluster."""
        own = ["--num-cpus", "1", "--block", "--node-ip-address", self.second.address]
        # Ray tells a node to use the head's folder, which is another one on each host.
        self._joined = self._ray(self.second, "--address", f"{self.first.address}:{PORT}", *own)

    @property
    def has_left(self) -> bool:
        """Whether the second host's part of Ray has ended."""
        return self._joined.poll() is not None

    def start(self, name: str) -> subprocess.Popen[str]:
        (self.folder / "space.yaml").write_text(SPACE)
        words = ["run", str(self.folder / "space.yaml"), "--sweep", name, "--plain", "--address", "auto"]
        found = {"RAY_ADDRESS": f"{self.first.address}:{PORT}"}
        return self._popen(self.first, [sys.executable, "-m", "sweeper.cli", *words], self.environment | found)

    def end(self) -> None:
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
            process.communicate()

    def _ray(self, host: Host, *words: str) -> subprocess.Popen[str]:
        ray = Path(sys.executable).with_name("ray")
        process = self._popen(host, [str(ray), "start", *words], self.environment | {"RAY_ADDRESS": ""})
        assert process.stdout is not None
        assert any("Ray runtime started" in line for line in process.stdout)
        return process

    def _popen(self, host: Host, words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(host.command(*words), env=environment, text=True, **pipes)
        self._started.append(process)
        return process


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    """Two hosts, on which a sweep has run undisturbed."""
    with hosts.two_hosts() as (first, second):
        found = Grounds(first, second, tmp_path_factory.mktemp("hosts"))
        calm = found.start("calm")
        out, _ = calm.communicate(timeout=500)
        assert calm.returncode == 0, out
        yield found
        found.end()


def started(grounds: Grounds, name: str) -> subprocess.Popen[str]:
    """Return the driver of a sweep of which a trial is under way."""
    driver = grounds.start(name)
    folder = sweep_folder(grounds.folder, name)
    deadline = time.monotonic() + 300
    while not (folder.study.exists() and any(cell.samples_seen for cell in cells(folder).values())):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return driver


def check_end(grounds: Grounds, name: str, driver: subprocess.Popen[str]) -> str:
    """Every cell ended as in the undisturbed sweep, each milestone logged once; return what was printed."""
    out, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, out
    folder, calm = sweep_folder(grounds.folder, name), sweep_folder(grounds.folder, "calm")
    ended = cells(folder)
    assert {cell.state for cell in ended.values()} == {TrialState.COMPLETE}
    assert winner(folder) == winner(calm)
    points = logged_points(folder.path)
    for cell in cells(calm).values():
        assert ended[cell.name].objective == pytest.approx(cell.objective, rel=1e-5)
        assert len(points[cell.name]) == len(set(points[cell.name])) == STEPS
    return out


def test_a_gang_trains_over_two_hosts_and_outlives_the_loss_of_one(grounds: Grounds) -> None:
    driver = started(grounds, "struck")
    grounds.second.lose_power()
    time.sleep(5)
    grounds.second.set_link("up")
    grounds.join()
    assert "is tried again" in check_end(grounds, "struck", driver)


def test_a_gang_outlives_seconds_in_which_its_hosts_do_not_reach_each_other(grounds: Grounds) -> None:
    driver = started(grounds, "cut")
    grounds.second.set_link("down")
    time.sleep(SHORT_S)
    grounds.second.set_link("up")
    assert "is tried again" not in check_end(grounds, "cut", driver)
    assert not grounds.has_left


def test_a_host_that_was_given_up_and_is_back_leaves_nothing_behind(grounds: Grounds) -> None:
    """Ray gives it up while its ranks still live; once they are reached again, none of them may go on."""
    driver = started(grounds, "parted")
    old = {pid for pid, line in grounds.second.processes().items() if line.startswith("ray::")}
    assert old
    grounds.second.set_link("down")
    time.sleep(LONG_S)
    grounds.second.set_link("up")
    deadline = time.monotonic() + 120
    while not grounds.has_left:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    grounds.join()
    assert "is tried again" in check_end(grounds, "parted", driver)
    assert not old & set(grounds.second.processes())
