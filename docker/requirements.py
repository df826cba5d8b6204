"""Print what the package needs, one requirement a line: ``python3 requirements.py [--only] [EXTRA ...]``.

``--only`` leaves out what the package needs without extras.
Installed before the package itself, these make a layer that changes only when pyproject.toml or constraints.txt does.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str], *, only: bool = False) -> list[str]:
    """Return the package's dependencies, unless ``only``, and those of ``extras``; an unknown extra raises KeyError."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return optional if only else [*project["dependencies"], *optional]


if __name__ == "__main__":
    named = sys.argv[1:]
    print("\n".join(requirements(Path("pyproject.toml"), [n for n in named if n != "--only"], only="--only" in named)))
