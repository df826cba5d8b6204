"""What an installation holds, and that it runs without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import setuptools
from deploy_files import ROOT

from sweeper.cli import main


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip("needs setuptools 77: pip install 'sweeper[dev]'")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE", "sweeper", "trials", "search_spaces"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(command, check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_holds_the_search_spaces_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    spaces = {path.relative_to(ROOT).as_posix() for path in (ROOT / "search_spaces").rglob("*.yaml")}
    assert len(spaces) > 3
    assert spaces <= names
    assert {"sweeper/report/page.html.j2", "sweeper/report/page.css", "trials/__main__.py"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sweeper", "trials", "search_spaces"}


@pytest.mark.slow
def test_an_installed_wheel_finds_the_quickstart_by_its_name(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "from pathlib import Path; import sweeper.adapters.yaml_space as y; print(y.__file__); "
    code += "print(len(y.load_space(Path('quickstart'))[1]))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    where, cells = done.stdout.split()
    assert where.startswith(str(tmp_path))
    assert cells == "30"


def test_a_file_comes_before_a_search_space_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("not: a space")
    assert main(["plan", "quickstart"]) == 2
    assert "quickstart:1: not" in capsys.readouterr().err
    assert main(["plan", "nothing-like-it"]) == 2
    assert "these ship: " in capsys.readouterr().err
    assert main(["plan", "../search_spaces/quickstart"]) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_completion_script_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in ("run", "resume", "replay", "export", "--calibration"))


def test_where_there_is_no_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the images."""
    from sweeper.drive import _git_commit

    monkeypatch.setenv("PATH", str(tmp_path))
    assert _git_commit() is None
