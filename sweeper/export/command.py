"""The command: from a sweep to the files of an export."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sweeper.adapters.mlflow.lookup import find_run
from sweeper.adapters.study import StudyLedger
from sweeper.core.config import BUILTIN_PREFIX, TrialConfig, fingerprint
from sweeper.core.decode import decode
from sweeper.core.errors import InputError, RecordError
from sweeper.core.layout import SweepFolder, find_sweep, sweeps_root
from sweeper.core.record import SweepSummary
from sweeper.export.draft import Draft, Syntax, render
from sweeper.export.provenance import Provenance, provenance
from sweeper.export.recipe import Recipe
from sweeper.export.targets import TARGETS
from sweeper.planned import facts_key
from sweeper.report.noise import contest
from sweeper.report.sources import sweep_record
from sweeper.sweep import open_ledger, read_facts, reopen


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """An export in memory."""

    text: str
    head: str
    """What stands at the head of the file; for JSON, which has no comments, it goes beside it."""
    syntax: Syntax
    companions: Mapping[str, str]
    """Texts of further files by path relative to the file's folder."""


THIS_FILE: Final = "THIS_FILE"
"""Stands for the name of a file that has none yet, and in our own config, so that it is the same wherever it lies."""


def export(sweep: str, to: str, *, gpus: int | None = None, out: Path | None = None) -> None:
    """Write the winner of a sweep for another trainer, to ``out`` or to standard output.

    Files are written together or not at all, and none that exists is written over. Without ``out`` what belongs into
    further files goes to standard error.

    Raises:
        InputError: there is no winner, the target cannot say the trial, or a file exists already.
        RecordError: the study's config does not have the fingerprint it is stored under.
    """
    folder = find_sweep(sweep, sweeps_root())
    found = make_export(folder, to, gpus=gpus, file=THIS_FILE if out is None else out.name)
    beside = dict(found.companions)
    if found.syntax == "json":
        beside[f"{THIS_FILE if out is None else out.name}.README"] = found.head
    if out is None:
        print(found.text, end="")
        for path, text in beside.items():
            print(f"--- {path}\n{text}", end="", file=sys.stderr)
        return
    _write({out: found.text, **{out.parent / path: text for path, text in beside.items()}})


def make_export(folder: SweepFolder, to: str, *, gpus: int | None = None, file: str = THIS_FILE) -> Exported:
    """Return the export of a sweep's winner, ``file`` being its name in the head; raises as ``export`` does."""
    if gpus is not None and gpus < 1:
        raise InputError("must be at least 1", where="--gpus", got=gpus)
    space, _ = reopen(folder)
    record = sweep_record(folder)
    summary, facts = record.summary, read_facts(folder)
    if summary.best is None:
        raise InputError("no trial ran to its end, so there is no winner", where=folder.name)
    recipe = winner(summary, open_ledger(folder, space), facts, gpus)
    if recipe.config.trial is not None and to != "yaml":
        raise InputError("the winner was trained by a trainer of your own", where="--to", got=to, mend="use --to yaml")
    run = find_run(folder.path, space.tracking.mlflow, recipe.fingerprint)
    told = provenance(summary, contest(record), facts, run)
    target = TARGETS[to]
    draft = target.translate(recipe if to in _OWN else replace(recipe, places=_places(recipe)))
    if to == "yaml":
        draft, file = with_provenance(draft, told), THIS_FILE
    text, head = render(draft, target.syntax, told.lines(), file)
    companions = {path: json.dumps(body, indent=2) + "\n" for path, body in draft.companions.items()}
    return Exported(text=text, head=head, syntax=target.syntax, companions=companions)


_OWN = ("yaml", "torchrun")
"""Targets that read ``builtin:`` paths themselves."""


def winner(summary: SweepSummary, ledger: StudyLedger, facts: Mapping[str, Any], gpus: int | None) -> Recipe:
    """Return the best trial's recipe, as it is in the study.

    Raises:
        RecordError: the study's config does not have the fingerprint it is stored under.
    """
    assert summary.best is not None
    config = decode(TrialConfig, ledger.config(summary.best.fingerprint))
    found = fingerprint(config)
    if found != summary.best.fingerprint:
        raise RecordError(
            f"the config of {summary.best.name} has fingerprint {found}, the study says {summary.best.fingerprint}"
        )
    known = facts["facts"][facts_key(config)]
    return Recipe(
        config=config,
        fingerprint=found,
        gpus=config.train.ranks if gpus is None else gpus,
        train_samples=int(known["train_samples"]),
        # A trainer of the user's own has not said, and no other trainer is told of its trials.
        longest_tokens=int(known["longest_tokens"]) if config.trial is None else 0,
    )


def with_provenance(draft: Draft, told: Provenance) -> Draft:
    """Return our own config with where it comes from as a key, which ``python -m trials`` passes over."""
    assert not isinstance(draft.body, str)
    return replace(draft, body={**draft.body, "provenance": told.to_plain()})


def _places(recipe: Recipe) -> dict[str, str]:
    """Return where the builtin model and data that the recipe names lie, made first if they are not there."""
    worlds = sorted({path.removeprefix(BUILTIN_PREFIX).partition("/")[0] for path in recipe.builtins})
    found: dict[str, str] = {}
    for world in worlds:
        command = [sys.executable, "-m", "trials.world", world]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RecordError(f"making {BUILTIN_PREFIX}{world} ended with code {done.returncode}")
        found |= dict(line.split("  ", 1) for line in done.stdout.splitlines() if line.startswith(BUILTIN_PREFIX))
    return found


def _write(texts: Mapping[Path, str]) -> None:
    """Write all files or none; each comes into being whole."""
    for path in texts:
        if path.exists():
            mend = "choose another name, or take that file away"
            raise InputError("the file exists already", where="--out", got=str(path), mend=mend)
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise InputError("cannot be written", where="--out", got=str(path), mend=str(error.strerror)) from error
