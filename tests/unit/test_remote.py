"""What the command line refuses of a sweep over Ray Client before it asks a cluster: one line, code 2."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.cli import main


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"ray://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEPER_HOME", "/shared/sweeps")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize("words", [("run", "quickstart"), ("resume", "mine"), ("confirm", "mine")])
def test_nobody_answers(words: tuple[str, ...], nobody: str, laptop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("grpc")
    told = refused(capsys, *words, "--address", nobody)
    assert told.startswith("error: --address: does not answer: ")
    assert "--ray-client-server-port=" in told
    assert not list(laptop.iterdir())


@pytest.mark.parametrize("words", [("run", "quickstart"), ("resume", "mine"), ("confirm", "mine")])
def test_the_folder_for_sweeps_is_not_named(
    words: tuple[str, ...], nobody: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SWEEPER_HOME")
    assert refused(capsys, *words, "--address", nobody).startswith("error: SWEEPER_HOME: must name a folder that all")


def test_a_wrong_search_space_is_told_with_its_own_name_and_line(
    nobody: str, laptop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (laptop / "space.yaml").write_text("sweep: x\ngrids: {}\n")
    assert refused(capsys, "run", "space.yaml", "--address", nobody).startswith("error: space.yaml:2: grids: ")


def test_a_working_directory_that_is_too_large_is_refused(
    nobody: str, laptop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (laptop / "weights.bin").open("wb") as file:
        file.truncate(600 << 20)
    told = refused(capsys, "run", "quickstart", "--address", nobody)
    assert "largest: weights.bin 629 MB" in told
