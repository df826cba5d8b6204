"""A sweep over Ray Client: driven on the cluster, followed from elsewhere, and in need of nobody there."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_cluster_address import free_port, head_node

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from test_sweep_scripted import SPACE

from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.sweep import open_ledger, reopen

pytest.importorskip("grpc", reason="Ray Client: pip install 'ray[client]'")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PASSWORD = f"planted-{secrets.token_hex(8)}"
SMALL = ["--set", "grid.batch_size=[16]", "--set", "grid.learning_rate=[1e-4, 1e-3]", "--set", "pruner=[]"]
LEFT = """
import ray, json
from ray._private.state import state
ray.init(address="auto", log_to_driver=False, logging_level="CRITICAL")
groups = [group["state"] for group in ray.util.placement_group_table().values()]
named = ray.util.list_named_actors(all_namespaces=True)
print("LEFT", json.dumps([named, [state for state in groups if state != "REMOVED"]]))
print("ACTORS", state.actor_table(None, None, None))
"""


@dataclass
class Laptop:
    """Runs the command line away from the cluster: it shares the machine, and nothing else but what it says."""

    head: dict[str, str]
    address: str
    folder: Path
    home: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, **changed: str) -> subprocess.Popen[str]:
        environment = self.head | {"SWEEPER_HOME": str(self.home), "RAY_ADDRESS": "", **changed}
        environment |= {"MLFLOW_TRACKING_PASSWORD": PASSWORD, "PGPASSWORD": PASSWORD}
        command = [sys.executable, "-m", "sweeper.cli", *words, "--address", self.address]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.started.append(process)
        return process

    def run(self, *words: str, **changed: str) -> tuple[int, str, str]:
        process = self.start(*words, **changed)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def states(self, sweep: str) -> set[TrialState]:
        folder = SweepFolder(self.home / sweep)
        return {cell.state for cell in open_ledger(folder, reopen(folder)[0]).cells()}

    def said(self, sweep: str) -> str:
        """What the sweep's driver has said on the cluster."""
        log = SweepFolder(self.home / sweep).remote / "driver.out"
        return log.read_text() if log.exists() else ""

    def wait_for_trials(self, process: subprocess.Popen[str], sweep: str, seen: int = 0) -> None:
        """Wait until a trial has begun, by what the driver said after the first ``seen`` characters."""
        while re.search(r"\d/2 (start|go on)", self.said(sweep)[seen:]) is None:
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)

    def drivers(self, sweep: str) -> list[int]:
        """The processes of the sweep's driver, and its keeper's."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:
                    environment = (folder / "environ").read_bytes().decode(errors="replace")
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if f"SWEEPER_HOME={self.home}\0" in environment and sweep in words and self.address not in words:
                    found.append(int(folder.name))
        return found

    def keepers(self) -> list[int]:
        """The actors that keep drivers on this cluster."""
        token = self.head["RAY_AUTH_TOKEN"]
        return [pid for pid in _processes("ray::RemoteDriver") if token in Path(f"/proc/{pid}/environ").read_text()]

    def assert_nothing_is_left(self, sweep: str) -> None:
        wait_until(lambda: not self.drivers(sweep) and not self.keepers())
        done = subprocess.run([sys.executable, "-c", LEFT], env=self.head, capture_output=True, text=True, check=True)
        assert "LEFT [[], []]" in done.stdout
        assert PASSWORD not in done.stdout


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[dict[str, str], str]]:
    port = free_port()
    with head_node(2, port, SCRIPTED_MILESTONE_S="0.4") as environment:
        yield environment, f"ray://127.0.0.1:{port}"


@pytest.fixture
def laptop(head: tuple[dict[str, str], str], tmp_path: Path) -> Iterator[Laptop]:
    environment, address = head
    found = Laptop(environment, address, tmp_path / "laptop", tmp_path / "cluster")
    found.folder.mkdir()
    found.home.mkdir()
    (found.folder / "space.yaml").write_text(SPACE)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)


def _processes(title: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "cmdline").read_bytes().decode(errors="replace").startswith(title):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def test_the_sweep_is_driven_on_the_cluster_followed_here_and_leaves_nothing_but_its_folder(laptop: Laptop) -> None:
    (laptop.folder / "code").mkdir()
    (laptop.folder / "code/mine.py").write_text("")
    (laptop.folder / ".env").write_text("SECRET=1\n")
    code, out, err = laptop.run("run", "space.yaml", *SMALL)
    assert code == 0, out + err
    assert "sweep scripted-1 is driven on the cluster; shipped: 2 files" in out
    assert len(re.findall(r"^ +[\d.]+s +\d/2 start", out, re.MULTILINE)) == 2, out
    assert "2 cells: 2 ran to the end" in out
    assert laptop.states("scripted-1") == {TrialState.COMPLETE}
    folder = SweepFolder(laptop.home / "scripted-1")
    shipped = folder.remote / "files"
    assert {path.name for path in shipped.iterdir()} == {"space.yaml", "code"}
    assert [path.name for path in laptop.home.iterdir()] == ["scripted-1"]
    laptop.assert_nothing_is_left("scripted-1")
    ray = Path(laptop.head["SCRIPTED_MARKS"]).parent
    for root in (ray, laptop.home):
        leaks = [path for path in root.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
        assert not leaks


def test_the_follower_may_be_killed_and_resume_follows_the_same_driver_to_its_end(laptop: Laptop) -> None:
    process = laptop.start("run", "space.yaml", "--sweep", "lonely", *SMALL)
    laptop.wait_for_trials(process, "lonely")
    (driver,) = laptop.drivers("lonely")
    # What leads to the servers arrives, and by the environment of that process alone.
    assert f"MLFLOW_TRACKING_PASSWORD={PASSWORD}" in Path(f"/proc/{driver}/environ").read_text()
    process.kill()
    process.communicate()
    code, out, err = laptop.run("resume", "lonely")
    assert code == 0, out + err
    assert "sweep lonely is being driven on the cluster" in out
    assert "2 cells: 2 ran to the end" in out
    assert laptop.said("lonely").count("connecting to Ray") == 1
    assert laptop.states("lonely") == {TrialState.COMPLETE}
    laptop.assert_nothing_is_left("lonely")


def test_a_sweep_that_nobody_follows_ends_by_itself(laptop: Laptop) -> None:
    process = laptop.start("run", "space.yaml", "--sweep", "alone", *SMALL)
    laptop.wait_for_trials(process, "alone")
    process.kill()
    process.communicate()
    wait_until(lambda: "2 cells: 2 ran to the end" in laptop.said("alone"))
    laptop.assert_nothing_is_left("alone")
    code, out, err = laptop.run("resume", "alone")
    assert code == 0, out + err
    assert "2 cells: 2 ran to the end" in out


def test_resume_goes_on_after_ctrl_c_and_after_the_death_of_the_keeper(laptop: Laptop) -> None:
    process = laptop.start("run", "space.yaml", "--sweep", "halted", *SMALL)
    laptop.wait_for_trials(process, "halted")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, out + err
    assert f"sweeper resume halted --address {laptop.address}" in out
    assert TrialState.COMPLETE not in laptop.states("halted")
    laptop.assert_nothing_is_left("halted")

    before = len(laptop.said("halted"))
    process = laptop.start("resume", "halted")
    laptop.wait_for_trials(process, "halted", before)
    (keeper,) = laptop.keepers()
    os.kill(keeper, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, out + err
    assert f"sweeper resume halted --address {laptop.address}" in err
    wait_until(lambda: not laptop.drivers("halted"))
    assert TrialState.COMPLETE not in laptop.states("halted")

    code, out, err = laptop.run("resume", "halted")
    assert code == 0, out + err
    assert laptop.states("halted") == {TrialState.COMPLETE}
    laptop.assert_nothing_is_left("halted")


def test_what_the_driver_refuses_is_told_here_and_nothing_is_written(laptop: Laptop) -> None:
    code, out, err = laptop.run("run", "space.yaml", "--set", "train.ranks=16", *SMALL)
    assert code == 2, out + err
    assert err.count("error: ") == 1
    assert "a gang of 16 ranks needs" in err
    assert not list(laptop.home.iterdir())
    laptop.assert_nothing_is_left("scripted-1")


def test_a_folder_that_the_cluster_lacks_is_refused(laptop: Laptop) -> None:
    code, out, err = laptop.run("run", "space.yaml", SWEEPER_HOME=f"{laptop.home}/none")
    assert code == 2, out + err
    assert err.startswith("error: SWEEPER_HOME: no such folder on the cluster's head node")
    assert err.count("\n") == 1


def test_another_sweeper_on_the_cluster_is_named(laptop: Laptop) -> None:
    other = laptop.folder / "path/sweeper-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: sweeper\nVersion: 0.0.1\n")
    code, out, err = laptop.run(
        "run", "space.yaml", PYTHONPATH=f"{other.parent}{os.pathsep}{laptop.head['PYTHONPATH']}"
    )
    assert code == 2, out + err
    assert re.fullmatch(r"error: --address: the cluster's head node has sweeper [\d.]+, here is 0\.0\.1 \(.*\)\n", err)


def test_without_the_token_the_reason_is_told(laptop: Laptop) -> None:
    code, out, err = laptop.run("run", "space.yaml", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert code == 2, out + err
    assert err.startswith("error: --address: the cluster refuses: ")
    assert err.count("\n") == 1
    assert laptop.head["RAY_AUTH_TOKEN"] not in out + err
