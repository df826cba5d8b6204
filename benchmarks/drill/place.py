"""What a drilled sweep runs on: Ray nodes, an MLflow server and PostgreSQL, each a process of its own to be killed."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import postgres_server
from postgres_server import PostgresServer

from sweeper.adapters.mlflow.store import server_environment

ROOT = Path(__file__).parents[2]
CURVES = ROOT / "benchmarks" / "sft_grid" / "grids" / "sft-grid_mawps_seed0.jsonl"
"""48 trials that were really trained and recorded; the scripted ones play them."""
MARK = "DRILL_MARK"
"""Environment variable by which our own processes are told from any other's."""


class Place:
    """A Ray cluster of a head without slots and two nodes, an MLflow server, and PostgreSQL where it is asked for."""

    postgres: PostgresServer
    study_uri: str

    def __init__(self, folder: Path, *, scripted: bool, slots: int) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        os.environ[MARK] = self.mark
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "OMP_NUM_THREADS": "1"}
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
        paths = [str(ROOT / "tests" / "scripted")] if scripted else []
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, str(ROOT)])
        os.environ["SCRIPTED_MARKS"] = str(folder / "struck")
        os.environ |= {"SCRIPTED_CURVES": str(CURVES), "SCRIPTED_MILESTONE_S": "0.2"} if scripted else {}
        self._slots = slots
        self._mlflow_port = free_port()
        self._mlflow: subprocess.Popen[bytes] | None = None

    def start(self, *, mlflow: bool = True) -> None:
        from ray.cluster_utils import Cluster

        self.ray = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self._new_node() for _ in range(2)]
        if mlflow:
            self.start_mlflow()

    def use(self, postgres: PostgresServer) -> None:
        """Keep the studies of all sweeps in a new database of this server."""
        os.environ |= postgres.environment
        self.postgres, self.study_uri = postgres, postgres.new_database("drill")

    @property
    def address(self) -> str:
        return str(self.ray.address)

    @property
    def mlflow_uri(self) -> str:
        return f"http://127.0.0.1:{self._mlflow_port}"

    @property
    def mlflow_store(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def start_mlflow(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._mlflow_port), "--workers", "1"]
        command += ["--backend-store-uri", self.mlflow_store, "--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "mlflow.log").open("ab") as log:
            environment = os.environ | server_environment()
            self._mlflow = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)

    def wait_for_mlflow(self, limit_s: float = 180.0) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.mlflow_uri}/health", timeout=2)
                return
            time.sleep(0.5)
        raise TimeoutError("MLflow does not answer")

    def kill_mlflow(self) -> None:
        if self._mlflow is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._mlflow.pid, signal.SIGKILL)
            self._mlflow.wait()

    def kill_postgres(self, down_s: float) -> None:
        """Kill PostgreSQL and start it again after so long."""
        self.postgres.kill()
        time.sleep(down_s)
        self.postgres.start()

    def kill_node(self, index: int) -> None:
        """Kill a node's raylet with all it runs, and let another join."""
        self.ray.remove_node(self.nodes[index], allow_graceful=False)
        self.nodes[index] = self._new_node()

    def kill_process(self, kind: str, pick: Callable[[list[int]], int], number: int = signal.SIGKILL) -> bool:
        """Send a signal to one of our own Ray processes of this title; return whether there was one."""
        found = self.processes(kind)
        if found:
            with suppress(ProcessLookupError):
                os.kill(pick(found), number)
        return bool(found)

    def processes(self, kind: str) -> list[int]:
        """Return our own processes whose title begins so."""
        return [pid for pid, title in _titles() if title.startswith(kind) and self._is_ours(pid)]

    def placement_groups(self) -> int:
        """Return how many placement groups exist that were not removed."""
        import ray

        ray.init(self.address, logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
        try:
            states = [group["state"] for group in ray.util.placement_group_table().values()]
        finally:
            ray.shutdown()
        return sum(state != "REMOVED" for state in states)

    def close(self) -> None:
        self.kill_mlflow()
        self.ray.shutdown()

    def _new_node(self) -> Any:
        for _ in range(4):
            # Ray gives a node 30 s to start, which is too short on a machine that is busy otherwise.
            with suppress(Exception):
                return self.ray.add_node(num_cpus=self._slots, wait=False)
        return self.ray.add_node(num_cpus=self._slots, wait=False)

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            return f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False


@contextmanager
def place(folder: Path, *, scripted: bool, slots: int) -> Iterator[Place]:
    """Start everything and leave nothing behind."""
    with ExitStack() as at_end:
        found = Place(folder, scripted=scripted, slots=slots)
        found.use(at_end.enter_context(postgres_server.serving()))
        found.start()
        at_end.callback(found.close)
        found.wait_for_mlflow()
        yield found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _titles() -> list[tuple[int, str]]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                found.append((int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found
