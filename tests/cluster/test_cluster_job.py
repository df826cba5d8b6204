"""A sweep as a Ray job: the working directory is shipped, and the sweep outlives it."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from test_sweep_scripted import SCRIPTED, SPACE

from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.sweep import open_ledger, reopen

RAY = Path(sys.executable).with_name("ray")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("aiohttp_cors") is None, reason="Ray's job server: pip install 'ray[default]'"
    ),
]


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """A head node with its job server and token authentication; yields the environment that reaches the server."""
    folder = tempfile.mkdtemp(prefix="ray-head-")
    port, jobs_port = free_port(), free_port()
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": f"http://127.0.0.1:{jobs_port}",
    }
    words = ["start", "--head", "--port", str(port), "--node-ip-address", "127.0.0.1", "--num-cpus", "2", "--block"]
    words += ["--temp-dir", folder, "--include-dashboard", "true", "--dashboard-port", str(jobs_port)]
    words += ["--ray-client-server-port", str(free_port())]  # ray[default] serves Ray Client too
    own = environment | {"RAY_ADDRESS": ""}
    process = subprocess.Popen([RAY, *words], env=own, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 180
    while ray_job(environment, "list").returncode != 0:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(1)
    yield environment
    process.terminate()
    process.communicate()
    shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ray_job(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RAY, "job", *words], env=environment, capture_output=True, text=True, check=False)


def submit(head: dict[str, str], folder: Path, variables: dict[str, str], *more: str) -> tuple[int, str]:
    """Ship a folder with a search space, run it as a job and return the exit code of ``ray job submit`` and its log."""
    (folder / "space.yaml").write_text(SPACE)
    path = f"{SCRIPTED}{os.pathsep}{SCRIPTED.parents[1]}"
    shipped = {"env_vars": {"PYTHONPATH": path, "SCRIPTED_MARKS": str(folder / "struck"), **variables}}
    words = ["submit", "--working-dir", str(folder), "--runtime-env-json", json.dumps(shipped), "--"]
    small = ["--set", "grid.batch_size=[16]", "--set", "grid.learning_rate=[1e-4,1e-3]", "--set", "pruner=[]"]
    words += [sys.executable, "-m", "sweeper.cli", "run", "space.yaml", "--address", "auto", "--plain", *small, *more]
    done = ray_job(head, *words)
    return done.returncode, done.stdout + done.stderr


def test_a_job_runs_a_shipped_search_space_and_leaves_its_sweep_where_it_is_told_to(
    head: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "sweeps"
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    code, told = submit(head, shipped, {"SWEEPER_HOME": str(home)}, "--sweep", "job")
    assert code == 0, told
    assert "2 cells: 2 ran to the end" in told
    assert head["RAY_AUTH_TOKEN"] not in told
    folder = SweepFolder(home / "job")
    cells = open_ledger(folder, reopen(folder)[0]).cells()
    assert {cell.state for cell in cells} == {TrialState.COMPLETE}


def test_a_job_whose_sweep_would_be_deleted_with_it_is_refused(head: dict[str, str], tmp_path: Path) -> None:
    code, told = submit(head, tmp_path, {})
    assert code != 0
    assert "SWEEPER_HOME: Ray deletes this folder after the job" in told
