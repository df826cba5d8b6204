"""The documentation says what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["cli.md", "search-space.md"])
def test_reference_pages_are_what_the_code_generates(build: ModuleType, page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == build.PAGES[page](), "run: python docs/build.py"


def test_every_key_and_option_is_explained(build: ModuleType) -> None:
    for name, page in build.PAGES.items():
        bare = [line for line in page().splitlines() if re.fullmatch(r"(\| `\w+` .*\|\s+\||- `[^`]+`: None)", line)]
        assert not [line for line in bare if "| section |" not in line], f"{name}: {bare}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_search_space_that_ships_loads() -> None:
    from sweeper.adapters.yaml_space import load_space

    spaces = sorted((ROOT / "search_spaces").glob("*.yaml"))
    assert spaces
    for path in spaces:
        _, cells = load_space(path)
        assert cells, path
