"""The working directory of a sweep over Ray Client: what goes, what stays, and how much is too much."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from sweeper.core.errors import InputError
from sweeper.shipment import BYTES_LIMIT, FILES_LIMIT, refuse_too_much, shipment_of


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a sweep, a virtual environment, caches and secrets."""
    folder = tmp_path / "project"
    write(folder, "space.yaml", "code/train.py", "data/train.jsonl")
    write(
        folder,
        ".env",
        ".hidden/config",
        "code/.cache/x",
        "code/__pycache__/train.pyc",
        "env/pyvenv.cfg",
        "env/lib/a.py",
    )
    write(folder, "sweeps/one/space.yaml", "sweeps/one/facts.json", "sweeps/one/study.journal")
    return folder


def test_code_and_data_go_and_sweeps_secrets_and_caches_stay(project: Path) -> None:
    shipment = shipment_of(project, project / "space.yaml")
    assert list(shipment.files) == ["code/train.py", "data/train.jsonl", "space.yaml"]
    assert shipment.space == "space.yaml"
    assert shipment.size_bytes == sum(map(len, shipment.files))


def test_what_git_ignores_stays_but_not_the_search_space(project: Path) -> None:
    subprocess.run(["git", "init", "-q", project], check=True)
    write(project, ".gitignore")
    (project / ".gitignore").write_text("data\nspace.yaml\n")
    assert list(shipment_of(project, project / "space.yaml").files) == ["code/train.py", "space.yaml"]


def test_a_search_space_from_elsewhere_goes_along(project: Path, tmp_path: Path) -> None:
    write(tmp_path, "other/mine.yaml")
    shipment = shipment_of(project, tmp_path / "other/mine.yaml")
    assert shipment.space == "search-space/mine.yaml"
    assert shipment.files["search-space/mine.yaml"] == tmp_path / "other/mine.yaml"


def test_a_search_space_that_ships_with_the_package_needs_no_file(tmp_path: Path) -> None:
    shipment = shipment_of(tmp_path, Path("quickstart"))
    assert (shipment.space, dict(shipment.files)) == ("quickstart", {})


def test_the_archive_holds_files_and_where_they_lead(project: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere.txt")
    (project / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    (project / "code/train.py").chmod(0o755)
    packed = io.BytesIO()
    shipment_of(project, project / "space.yaml").pack(packed)
    packed.seek(0)
    out = tmp_path / "out"
    with tarfile.open(fileobj=packed) as archive:
        archive.extractall(out, filter="data")
    assert (out / "link.txt").read_text() == "elsewhere.txt"
    assert not (out / "link.txt").is_symlink()
    assert (out / "code/train.py").stat().st_mode & 0o100


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"data/a.bin": BYTES_LIMIT, "models/b.bin": 5_000_000, "c": 1}, "largest: data 500 MB, models 5 MB, c 0 MB"),
        ({f"many/{number}": 1 for number in range(FILES_LIMIT + 1)}, "largest: many 0 MB, got '0 MB in 20,001 files'"),
    ],
)
def test_too_much_is_refused_and_what_is_largest_is_named(sizes: dict[str, int], told: str) -> None:
    with pytest.raises(InputError) as refused:
        refuse_too_much(sizes, Path("/home/me"))
    assert told in str(refused.value)
    assert "have to lie there already" in str(refused.value)
