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

    spaces = sorted((ROOT / "search_spaces").rglob("*.yaml"))
    assert spaces
    for path in spaces:
        _, cells = load_space(path)
        assert cells, path


def readme_commands() -> list[list[str]]:
    """Return the arguments of every ``sweeper`` command in the README's code blocks, continued lines joined."""
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition("#")[0] for block in blocks for line in block.splitlines()]
    return [line.split()[1:] for line in lines if line.startswith(".venv/bin/sweeper")]


def test_the_readme_shows_commands_that_exist() -> None:
    from sweeper.cli import build_parser

    assert len(readme_commands()) >= 5
    for arguments in readme_commands():
        build_parser().parse_args([argument for argument in arguments if argument != "..."])


def test_the_guide_shows_commands_that_exist() -> None:
    from sweeper.cli import build_parser

    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / "guide.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [re.split(r" {2,}", line)[0] for block in blocks for line in block.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("sweeper ")]
    commands = [arguments for arguments in commands if not arguments[0].endswith(":")]  # a line of output
    assert len(commands) >= 10
    for arguments in commands:
        build_parser().parse_args(["SWEEP" if argument == "TRIAL" else argument for argument in arguments])


def test_the_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    assert named
    assert named <= targets
