"""A gang over two hosts, each with a network and an address of its own, and what happens when one of them dies."""

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

from benchmarks.drill.check import cells, sweep_folder, winner
from sweeper.core.lifecycle import TrialState

PORT = 6379
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
        self._ray(self.second, "--address", f"{self.first.address}:{PORT}", *own)

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


@pytest.fixture
def grounds(tmp_path: Path) -> Iterator[Grounds]:
    with hosts.two_hosts() as (first, second):
        found = Grounds(first, second, tmp_path)
        yield found
        found.end()


def test_a_gang_trains_over_two_hosts_and_outlives_the_loss_of_one(grounds: Grounds) -> None:
    calm = grounds.start("calm")
    out, _ = calm.communicate(timeout=500)
    assert calm.returncode == 0, out

    driver = grounds.start("struck")
    folder = sweep_folder(grounds.folder, "struck")
    deadline = time.monotonic() + 300
    while not (folder.study.exists() and any(cell.samples_seen for cell in cells(folder).values())):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    grounds.second.lose_power()
    time.sleep(5)
    grounds.second.set_link("up")
    grounds.join()
    out, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, out
    assert "is tried again" in out
    ended = cells(folder)
    assert {cell.state for cell in ended.values()} == {TrialState.COMPLETE}
    assert winner(folder) == winner(sweep_folder(grounds.folder, "calm"))
    for name, cell in cells(sweep_folder(grounds.folder, "calm")).items():
        assert ended[name].objective == pytest.approx(cell.objective, rel=1e-5)
