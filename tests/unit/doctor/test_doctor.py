"""Broken set-ups, each made for real where a test can: each is named, with the right mend."""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper.doctor import host, packages, services
from sweeper.doctor.command import examine, execute, line
from sweeper.doctor.finding import Finding, Level, ok
from sweeper.planning.hardware import gpus_here

ROOT = Path(__file__).parents[3]
GOOD = {"version": "9.9"}
FACTS: dict[str, Any] = {
    "packages": dict.fromkeys(("torch", "transformers", "deepspeed", "peft", "lm_eval", "flash_attn"), GOOD),
    "cuda": {"build": None, "devices": []},
    "nccl": None,
    "varlen": False,
}
H100 = {"name": "NVIDIA H100 80GB HBM3", "free": 79e9, "total": 80e9, "bf16": True}


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port of this machine on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def one(found: Iterator[Finding] | list[Finding], about: str) -> Finding:
    return next(each for each in found if each.about == about)


def assert_mended(found: Finding, level: Level, text: str, mend: str) -> None:
    assert found.level is level, found
    assert text in found.text, found
    assert mend in found.mend, found


def test_a_sweeps_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, where a folder should be")
    found = host.folder("sweeps", tmp_path / "taken" / "sweeps", "SWEEPER_HOME")
    assert_mended(found, Level.FAIL, "cannot be written to", "export SWEEPER_HOME=")


def test_a_disk_without_room(tmp_path: Path) -> None:
    found = host.folder("cache", tmp_path, "SWEEPER_CACHE", needed=1e18)
    assert_mended(found, Level.FAIL, "needed", "make room, or export SWEEPER_CACHE=")


def test_a_container_with_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "ENOUGH_SHARED", 1e18)
    (found,) = host.shared_memory(tmp_path)
    assert_mended(found, Level.WARN, "MiB", "--shm-size")


def test_a_host_name_without_address() -> None:
    assert_mended(host.host_name("no-such-host.invalid"), Level.FAIL, "has no address", "/etc/hosts")


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        assert_mended(host.port(number), Level.WARN, f"{number} is taken", f"sweeper ui --port {number + 1}")


def test_an_mlflow_server_that_is_down(nobody: int) -> None:
    found = services.mlflow(f"http://127.0.0.1:{nobody}")
    assert_mended(found, Level.FAIL, "does not answer", f"mlflow server --host 127.0.0.1 --port {nobody}")


def test_a_folder_for_mlflow_that_is_not_there(tmp_path: Path) -> None:
    found = services.mlflow(f"sqlite:///{tmp_path}/gone/mlflow.db")
    assert_mended(found, Level.FAIL, "does not exist", f"mkdir -p {tmp_path}/gone")


def test_a_database_that_is_down(nobody: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(services._DATABASES, "postgresql", (5432, "json", "psycopg2-binary"))
    found = services.database(f"postgresql://me:secret@127.0.0.1:{nobody}/sweeps")
    assert_mended(found, Level.FAIL, "does not answer", f"pg_isready -h 127.0.0.1 -p {nobody}")
    assert "secret" not in found.text + found.mend


def test_a_database_driver_that_is_not_installed() -> None:
    found = services.database("postgresql+no_such_driver://127.0.0.1/sweeps")
    assert_mended(found, Level.FAIL, "no_such_driver, which is not installed", "pip install no_such_driver")


def test_a_ray_cluster_that_nobody_answers_for(nobody: int) -> None:
    found = services.ray_cluster(f"127.0.0.1:{nobody}")
    assert_mended(found, Level.FAIL, "does not answer", f"ray start --head --port={nobody}")


def test_a_ray_client_server_that_nobody_answers_for(nobody: int) -> None:
    found = services.ray_cluster(f"ray://127.0.0.1:{nobody}")
    assert_mended(found, Level.FAIL, "does not answer", f"--ray-client-server-port={nobody}")


def test_a_ray_client_server_without_a_folder_for_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.delenv("SWEEPER_HOME", raising=False)
        assert_mended(services.ray_cluster(address), Level.FAIL, "no folder for sweeps", "SWEEPER_HOME=")
        monkeypatch.setenv("SWEEPER_HOME", "/shared/sweeps")
        assert services.ray_cluster(address).level is Level.OK


def test_the_address_of_rays_job_server(nobody: int) -> None:
    found = services.ray_cluster(f"http://127.0.0.1:{nobody}")
    assert_mended(found, Level.FAIL, "job server", "ray job submit")


@pytest.fixture
def broken_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages come before the installed ones in processes that are started."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
    return folder


def test_a_torch_that_cannot_be_imported(broken_path: Path) -> None:
    (broken_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    found = one(list(packages.packages(packages.machine_facts())), "torch")
    assert_mended(found, Level.FAIL, "libcudart.so.13", "pip install --force-reinstall 'torch>=2.11'")


def test_a_flash_attention_that_was_built_for_another_torch() -> None:
    facts = FACTS | {"packages": FACTS["packages"] | {"flash_attn": {"error": "cannot be imported: ImportError: x"}}}
    assert_mended(
        one(packages.packages(facts), "flash-attn"), Level.FAIL, "cannot be imported", "pip uninstall -y flash-attn"
    )


def test_a_package_that_the_search_space_needs_and_nobody_installed() -> None:
    facts = FACTS | {"packages": FACTS["packages"] | {"deepspeed": {"error": "not installed"}}}
    needed = one(packages.packages(facts, needs=["deepspeed"]), "deepspeed")
    assert_mended(
        needed, Level.FAIL, "not installed, and the search space needs it", "pip install 'sweeper[deepspeed]'"
    )
    assert one(packages.packages(facts), "deepspeed").level is Level.OK


def test_a_library_that_is_too_old() -> None:
    facts = FACTS | {"packages": FACTS["packages"] | {"torch": {"version": "2.4.1+cu121"}}}
    found = one(packages.packages(facts), "torch")
    assert_mended(found, Level.FAIL, "2.4.1+cu121 is older than 2.11", "pip install -U 'torch>=2.11'")


def test_a_python_that_is_too_old() -> None:
    assert_mended(packages.python((3, 9)), Level.FAIL, "3.9 is too old", "Python 3.11 to 3.13")


def test_a_gpu_that_the_driver_sees_and_torch_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (found,) = packages.gpus(FACTS, gpus_here(), ranks=None)
    assert_mended(
        found, Level.FAIL, "H100 80GB HBM3), torch sees none (a CPU build)", "pip install --force-reinstall torch"
    )


def test_gpus_that_others_use_and_that_are_not_linked() -> None:
    devices = [H100, H100 | {"free": 8e9}]
    facts = FACTS | {"cuda": {"build": "13.0", "devices": devices, "peers": False}, "nccl": "2.28"}
    found = list(packages.gpus(facts, [], ranks=4))
    assert_mended(one(found, "gpu memory"), Level.WARN, "others use GPU 1: 10% free", "CUDA_VISIBLE_DEVICES")
    assert_mended(one(found, "interconnect"), Level.WARN, "through the host", "nvidia-smi topo -m")
    assert_mended(one(found, "gang"), Level.WARN, "4 ranks does not fit the 2 GPUs", "--address")
    assert one(found, "nccl").level is Level.OK


def space(folder: Path, train: str) -> Path:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "space.yaml").write_text(
        f"sweep: s\nmodel: {{path: {folder / 'model'}}}\ndata: {{train: {train}, test: {train}}}\n"
        "grid: {batch_size: [1], learning_rate: [1e-5]}\n"
    )
    return folder / "space.yaml"


def well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out what starts other processes or depends on this machine."""
    monkeypatch.setattr(packages, "machine_facts", lambda: FACTS)
    monkeypatch.setattr(host, "ENOUGH_FREE", 0.0)
    monkeypatch.setattr(host, "LEAST_FREE", 0.0)
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path / "sweeps"))
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))


def test_a_model_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well(monkeypatch, tmp_path)
    found = one(examine(space(tmp_path, "builtin:quickstart/train"), [], address=None, port=0), "model and data")
    assert_mended(found, Level.FAIL, "model folder has no weights", "add model.safetensors")


def test_a_search_space_with_a_wrong_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well(monkeypatch, tmp_path)
    file = space(tmp_path, "t.jsonl")
    found = list(examine(file, ["train.lerning_rate=1"], address=None, port=0))
    assert_mended(one(found, "search space"), Level.FAIL, "unknown key", "did you mean 'learning_rate'")
    assert not [each for each in found if each.about == "model and data"]


@pytest.mark.parametrize(("address", "code"), [(None, 0), ("127.0.0.1:1", 1)])
def test_the_exit_code_tells_whether_a_sweep_would_run(
    address: str | None,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    well(monkeypatch, tmp_path)
    monkeypatch.setattr(host, "shared_memory", lambda: iter([ok("shared memory", "enough")]))
    arguments = argparse.Namespace(space=None, overrides=[], address=address, port=0)
    assert execute(arguments) == code
    printed = capsys.readouterr().out
    assert ("1 failure" in printed) == bool(code)
    assert "ok    python" in printed


def test_a_finding_is_a_line_and_its_mend_another() -> None:
    found = Finding(level=Level.FAIL, about="port", text="taken", mend="free it")
    assert line(found).splitlines() == ["fail  port            taken", f"{'':<22}mend: free it"]
    assert json.dumps(found.level) == '"fail"'
