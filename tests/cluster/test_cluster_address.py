"""A sweep on a cluster that was started with ``ray start``."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from test_sweep_scripted import SCRIPTED, SPACE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    with head_node(2) as environment:
        yield environment


@contextmanager
def head_node(slots: int, client_port: int | None = None, **more: str) -> Iterator[dict[str, str]]:
    """A head node with token authentication and so many slots; yields the environment that reaches it.

    ``client_port``: where it serves Ray Client, if that is installed; None means a free one.
    ``more``: variables that its processes see.
    """
    folder = tempfile.mkdtemp(prefix="ray-head-")
    port = free_port()
    environment = os.environ | more
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": f"127.0.0.1:{port}",
        "PYTHONPATH": f"{SCRIPTED}{os.pathsep}{SCRIPTED.parents[1]}",
        "SCRIPTED_MARKS": f"{folder}/struck",
    }
    words = [
        "start",
        "--head",
        "--port",
        str(port),
        "--node-ip-address",
        "127.0.0.1",
        "--num-cpus",
        str(slots),
        "--block",
    ]
    words += ["--temp-dir", folder, "--include-dashboard", "false"]
    if importlib.util.find_spec("grpc") is not None:
        words += ["--ray-client-server-port", str(client_port or free_port())]
    ray = Path(sys.executable).with_name("ray")
    own = environment | {"RAY_ADDRESS": ""}
    process = subprocess.Popen([ray, *words], env=own, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert any("Ray runtime started" in line for line in process.stdout)
    try:
        yield environment
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sweep(folder: Path, environment: dict[str, str], *more: str) -> tuple[int, str, str]:
    (folder / "space.yaml").write_text(SPACE)
    small = ["--set", "grid.batch_size=[16]", "--set", "grid.learning_rate=[1e-4, 1e-3]", "--set", "pruner=[]"]
    words = ["run", "space.yaml", "--plain", *small, *more]
    command = [sys.executable, "-m", "sweeper.cli", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_auto_finds_the_running_cluster(head: dict[str, str], tmp_path: Path) -> None:
    code, out, err = sweep(tmp_path, head, "--address", "auto")
    assert code == 0, out + err
    assert "2 cells: 2 ran to the end" in out


def test_a_library_of_another_version_is_named_before_anything_is_written(head: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "path/peft-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.0.1\n")
    changed = head | {"PYTHONPATH": f"{other.parent}{os.pathsep}{head['PYTHONPATH']}"}
    code, out, err = sweep(tmp_path, changed, "--address", "auto")
    assert code == 2, out + err
    assert "has peft " in err
    assert "instead of 0.0.1" in err
    assert err.startswith("error: --address: node ")
    assert not (tmp_path / "sweeps").exists()


def test_without_the_token_the_cluster_is_not_reached_and_the_reason_is_told(
    head: dict[str, str], tmp_path: Path
) -> None:
    code, out, err = sweep(tmp_path, head | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}, "--address", "auto")
    assert code == 2, out + err
    assert "error: --address: no Ray cluster answers" in err
    assert head["RAY_AUTH_TOKEN"] not in out + err
