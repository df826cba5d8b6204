"""``sweeper import``: write runs that other trainers logged as a file for ``sweeper replay`` and ``sweeper report``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sweeper.adapters.yaml_space import parse
from sweeper.core.errors import InputError
from sweeper.imports import jsonl_logs, trainer_state
from sweeper.imports.runs import LoggedRun, Wanted, curves

KINDS: Final = ("trainer-state", "jsonl", "mlflow")
_READERS: Final = {"trainer-state": trainer_state.read, "jsonl": jsonl_logs.read}


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code.

    Raises:
        InputError: an argument or a file cannot be used; nothing was written.
    """
    out: Path = args.out
    if out.exists():
        raise InputError("the file exists already", where="--out", got=str(out), mend="choose another name")
    if out.suffix != ".jsonl":
        raise InputError("must end in .jsonl", where="--out", got=str(out))
    wanted = Wanted(
        objective=args.objective,
        direction=args.direction,
        settings=_settings(args.overrides, "--set"),
        axes=tuple(args.axes),
    )
    runs, wanted = _mlflow(args, wanted) if args.kind == "mlflow" else (_files(args.kind, args.paths), wanted)
    ended = [run for run in runs if not run.unfinished]
    for run in runs:
        if run.unfinished:
            print(f"note: {run.name} is left out, {run.unfinished}", file=sys.stderr)
    lines = curves(out.stem, _told_apart(ended), wanted)
    beside = out.with_name(f".{out.name}.part")
    beside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    os.replace(beside, out)
    print(f"{out}: {len(lines) - 1} runs, ranked by {lines[0]['objective']['metric']}")
    return 0


def _files(kind: str, paths: list[str]) -> list[LoggedRun]:
    runs: list[LoggedRun] = []
    for text in paths:
        path, _, given = text.partition("@")
        settings = _settings([part for part in given.split(",") if part], text)
        runs += [replace(run, settings={**run.settings, **settings}) for run in _READERS[kind](Path(path))]
    return runs


def _mlflow(args: argparse.Namespace, wanted: Wanted) -> tuple[list[LoggedRun], Wanted]:
    from sweeper.imports.mlflow_runs import read

    uri = args.tracking or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        mend = "e.g. --tracking sqlite:////home/me/mlflow.db, or set MLFLOW_TRACKING_URI"
        raise InputError("say where MLflow keeps its runs", where="--tracking", got=None, mend=mend)
    runs: list[LoggedRun] = []
    for name in args.paths:
        found, wanted = read(name, uri, wanted)
        runs += found
    return runs, wanted


def _told_apart(runs: list[LoggedRun]) -> list[LoggedRun]:
    """Number the runs of a name that several have."""
    many = {run.name for run in runs if sum(other.name == run.name for other in runs) > 1}
    return [
        replace(run, name=f"{run.name}-{place}") if run.name in many else run for place, run in enumerate(runs, start=1)
    ]


def _settings(texts: list[str], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError("must have the form key=value", where=where, got=text)
        found[key.strip()] = parse(f"value: {value}", where)[1]["value"]
    return found
