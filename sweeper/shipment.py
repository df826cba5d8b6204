"""What goes to a cluster with a sweep that is started from here: the working directory, within limits."""

from __future__ import annotations

import functools
import os
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from sweeper.core.errors import InputError
from sweeper.core.figures import plural
from sweeper.core.layout import SweepFolder

BYTES_LIMIT: Final = 500_000_000
"""As much as Ray takes for a job's working directory."""
FILES_LIMIT: Final = 20_000
_STAYS: Final = ("__pycache__", "node_modules")
_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipment:
    """Files by the path that they have in the working directory on the cluster."""

    files: Mapping[str, Path]
    space: str
    """How the search space is called there."""
    size_bytes: int

    def __str__(self) -> str:
        return f"{plural(len(self.files), 'file')}, {self.size_bytes / 1e3:,.1f} kB"

    def pack(self, into: IO[bytes]) -> None:
        """Write a compressed archive; raises InputError where a file cannot be read."""
        with tarfile.open(fileobj=into, mode="w:gz", compresslevel=1, dereference=True) as archive:
            for name, path in self.files.items():
                try:
                    archive.add(path, arcname=name, recursive=False)
                except OSError as error:
                    raise InputError(f"cannot be shipped: {error.strerror}", where=str(path)) from error


def shipment_of(folder: Path, space: Path) -> Shipment:
    """Return what a sweep over ``space`` needs of the working directory ``folder``.

    These stay here: hidden files and folders, sweeps, virtual environments, caches, and in a git checkout what git
    ignores. The search space itself always goes, wherever it lies, unless it is one that ships with the package.

    Raises:
        InputError: that is too much; the message names the largest.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(_files(folder))}
    name = str(space)
    if space.is_file():
        absolute = space.resolve()
        is_inside = absolute.is_relative_to(folder.resolve())
        name = absolute.relative_to(folder.resolve()).as_posix() if is_inside else f"search-space/{space.name}"
        paths[name] = absolute
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    refuse_too_much(sizes, folder)
    return Shipment(files=paths, space=name, size_bytes=sum(sizes.values()))


def refuse_too_much(sizes: Mapping[str, int], folder: Path) -> None:
    """Raise InputError where files of these sizes, by path, are too many or too large; it names what is largest."""
    total = sum(sizes.values())
    if total <= BYTES_LIMIT and len(sizes) <= FILES_LIMIT:
        return
    by_entry: Counter[str] = Counter()
    for name, size in sizes.items():
        by_entry[PurePosixPath(name).parts[0]] += size
    largest = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in by_entry.most_common(_NAMED))
    raise InputError(
        f"at most {BYTES_LIMIT / 1e6:,.0f} MB in {FILES_LIMIT:,} files are shipped to a cluster; largest: {largest}",
        where=str(folder),
        got=f"{total / 1e6:,.0f} MB in {len(sizes):,} files",
        mend="models and data have to lie there already; start in a folder that holds the search space and your code",
    )


def _files(folder: Path) -> Iterator[Path]:
    stays = functools.cache(_stays)
    for path in _known_to_git(folder) or _walked(folder):
        parts = path.relative_to(folder).parts
        inside = (folder.joinpath(*parts[:end]) for end in range(1, len(parts)))
        if not path.name.startswith(".") and path.is_file() and not any(map(stays, inside)):
            yield path


def _walked(folder: Path) -> Iterator[Path]:
    found = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _stays(Path(parent, name))]
        yield from (Path(parent, name) for name in names)
        found += len(names)
        if found > 10 * FILES_LIMIT:  # as in a home directory: too many, without counting to the end
            return


def _stays(folder: Path) -> bool:
    name = folder.name
    is_environment = (folder / "pyvenv.cfg").exists()
    is_sweep = SweepFolder(folder).facts.exists() and SweepFolder(folder).space.exists()
    return name.startswith(".") or name in _STAYS or is_environment or is_sweep


def _known_to_git(folder: Path) -> list[Path]:
    """Return what git tracks or would track of a folder; nothing where it is no checkout, or wholly ignored."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, check=False)
    except OSError:  # no git here
        return []
    return [folder / os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
