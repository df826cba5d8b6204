"""Where a sweep keeps its files: the one place that knows their names. Nothing is created by asking."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sweeper.core.errors import InputError


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """One sweep's folder. Nothing is created by asking for a name."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def space(self) -> Path:
        """The search space as it is run: the user's YAML with every ``--set`` applied."""
        return self.path / "space.yaml"

    @property
    def facts(self) -> Path:
        """What was found out about model and data before the first trial (JSON)."""
        return self.path / "facts.json"

    @property
    def plan_text(self) -> Path:
        """The plan of the sweep as ``sweeper plan`` prints it, made before the first trial."""
        return self.path / "plan.txt"

    @property
    def plan_json(self) -> Path:
        """The same as ``sweeper plan --json``."""
        return self.path / "plan.json"

    @property
    def study(self) -> Path:
        """The Optuna study: the truth about every cell."""
        return self.path / "study.journal"

    @property
    def lock(self) -> Path:
        """Held by the one driver that may run this sweep; the kernel frees it when the process dies."""
        return self.path / "driver.lock"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def ray_results(self) -> Path:
        return self.path / "ray"

    @property
    def checkpoints(self) -> Path:
        """A folder for each running trial's checkpoint, where the search space asks for them."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The page on what the sweep taught, and its pictures."""
        return self.path / "report"

    @property
    def outputs(self) -> Path:
        """A folder for each trial of the user's own trainer: what it prints, and the files it writes there."""
        return self.path / "outputs"

    @property
    def winners(self) -> Path:
        """A folder for each winner that was trained again for its weights, by fingerprint."""
        return self.path / "winners"

    @property
    def remote(self) -> Path:
        """What a driver on a cluster was sent over Ray Client, and what it said; there before the sweep begins."""
        return self.path / "remote"

    @property
    def is_reserved(self) -> bool:
        """Whether it holds nothing but what was sent for a sweep that has not begun."""
        return self.remote.is_dir() and len(list(self.path.iterdir())) == 1

    @property
    def export(self) -> Path:
        """The winner's config, written at the end of the sweep."""
        return self.path / "best.yaml"


def cache_root() -> Path:
    """Return where made models, tokens and empty stores are kept: ``$SWEEPER_CACHE``, else ``sweeper`` in
    ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("SWEEPER_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "sweeper"


def shown(path: Path) -> str:
    """Return a path as one would write it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def sweeps_root() -> Path:
    """Return the folder that holds all sweeps: ``$SWEEPER_HOME`` or ``sweeps`` in the current folder."""
    return Path(os.environ.get("SWEEPER_HOME") or "sweeps").resolve()


def find_sweep(name: str | None, root: Path) -> SweepFolder:
    """Return an existing sweep by its name or folder; without a name, the one last written to.

    Raises:
        InputError: there is no such sweep.
    """
    existing = sorted((p for p in root.glob("*") if SweepFolder(p).space.is_file()), key=_last_written)
    if name is None:
        if not existing:
            raise InputError("there is no sweep yet", where=str(root), mend="start one: sweeper run SPACE.yaml")
        return SweepFolder(existing[-1])
    for candidate in (root / name, Path(name)):
        if SweepFolder(candidate).space.is_file():
            return SweepFolder(candidate.resolve())
    known = ", ".join(sorted(p.name for p in existing)) or "none"
    raise InputError("no such sweep", where=str(root), got=name, mend=f"sweeps here: {known}")


def new_sweep(space_name: str, wanted: str | None, root: Path) -> SweepFolder:
    """Return a folder that is free: ``wanted`` itself, or the next ``NAME-1``, ``NAME-2``, ... of the space.

    Raises:
        InputError: ``wanted`` is taken or is not a plain name.
    """
    if wanted is not None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", wanted):
            raise InputError("must be letters, digits, dot, dash or underscore", where="--sweep", got=wanted)
        if (root / wanted).exists() and not SweepFolder(root / wanted).is_reserved:
            mend = f"go on with it: sweeper resume {wanted}; or choose another name"
            raise InputError("this sweep exists already", where="--sweep", got=wanted, mend=mend)
        return SweepFolder(root / wanted)
    number = 1
    while (root / f"{space_name}-{number}").exists():
        number += 1
    return SweepFolder(root / f"{space_name}-{number}")


def _last_written(path: Path) -> float:
    study = SweepFolder(path).study
    return (study if study.exists() else path).stat().st_mtime
