"""When a trial that runs alone writes checkpoints, and what is there when it begins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """Checkpoints of one trial in one folder."""

    root: Path
    every_milestones: int = 1
    keep: int = 2
    resume: bool = False

    def is_due(self, before: int, milestone: int) -> bool:
        """Return whether a checkpoint falls due where the number of milestones passed rises from ``before``."""
        return milestone // self.every_milestones > before // self.every_milestones

    def arguments(self) -> list[str]:
        """Return the command-line arguments that say the same."""
        given = ["--checkpoints", str(self.root), "--every-milestones", str(self.every_milestones)]
        return [*given, "--keep", str(self.keep), *(["--resume"] if self.resume else [])]


def keeping(root: Path | None, every_milestones: int | None, keep: int | None, *, resume: bool) -> Keeping | None:
    """Return what the command line asks for, None where it asks for no checkpoints.

    Raises:
        InputError: the arguments make no sense, or the folder holds checkpoints that would be mixed with new ones.
    """
    given = {"--every-milestones": every_milestones, "--keep": keep}
    for name, value in given.items():
        if value is not None and value < 1:
            raise InputError("must be at least 1", where=name, got=value)
    if root is None:
        named = [*(name for name, value in given.items() if value is not None), *(["--resume"] if resume else [])]
        if named:
            raise InputError("needs a folder of checkpoints", where=named[0], mend="give --checkpoints DIR")
        return None
    if root.exists() and not root.is_dir():
        raise InputError("must be a folder", where="--checkpoints", got=str(root))
    if not resume and any(root.glob("step-*")):
        raise InputError(
            "holds checkpoints already",
            where="--checkpoints",
            got=str(root),
            mend="give --resume to go on from them, or another folder",
        )
    return Keeping(root=root, every_milestones=every_milestones or 1, keep=keep or 2, resume=resume)


def cut_record(file: Path, step: int) -> None:
    """Keep the measurements of a record up to an optimizer step; what came later is measured again.

    A last line that was cut off when the process was killed is dropped.
    """
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    kept = []
    for line in lines:
        if not line.endswith("\n") or Measurement.from_json(json.loads(line)).step > step:
            break
        kept.append(line)
    file.write_text("".join(kept), encoding="utf-8")
