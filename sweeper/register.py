"""``sweeper register``: the winner's weights in MLflow's model registry.

A sweep keeps no weights: most are of trials that nobody wants. The winner is trained again from its config, which gives
the same losses, and what came out is held against the sweep's record before it is registered.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeper.adapters.mlflow.lookup import find_run
from sweeper.adapters.mlflow.registry import refuse_model_name, register_model
from sweeper.adapters.mlflow.store import sweep_store
from sweeper.core.errors import InputError, RecordError
from sweeper.core.figures import number
from sweeper.core.layout import SweepFolder, find_sweep, sweeps_root
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepSummary, TrialRow
from sweeper.core.space import SearchSpace
from sweeper.export.command import make_export
from sweeper.report.sources import sweep_record
from sweeper.spool import Spool
from sweeper.sweep import reopen

RECORD = "measurements.jsonl"
"""What ``python -m trials`` writes beside the model."""


def register(sweep: str, *, name: str | None, weights: Path | None, notice: Callable[[str], None]) -> str:
    """Register the winner of a sweep that has ended, and say what was done.

    Args:
        name: of the registered model; None means the search space's.
        weights: a folder with the winner's model, trained elsewhere; None trains it here, or takes what an earlier
            call has trained.

    Raises:
        InputError: there is no winner yet, or ``weights`` holds no model.
        RecordError: training failed, or MLflow does not take the model.
    """
    folder = find_sweep(sweep, sweeps_root())
    space, _ = reopen(folder)
    summary = sweep_record(folder).summary
    best = _winner(folder, summary)
    name = space.sweep if name is None else name
    refuse_model_name(name)
    run_id = find_run(folder.path, space.tracking.mlflow, best.fingerprint)
    if run_id is None:
        raise InputError("MLflow holds no run of the winner", where=best.name, mend=f"sweeper resume {folder.name}")
    place = _trained(folder, space, best, notice) if weights is None else weights
    files = _model_files(place)
    told = _held_against_the_record(place, folder, best.fingerprint)
    notice(f"{best.name}: {told}")
    version, is_new = register_model(
        folder.path,
        space.tracking.mlflow,
        name=name,
        run_id=run_id,
        fingerprint=best.fingerprint,
        digest=_digest(files),
        weights=place,
        tags={"sweep": folder.name, "trial": best.name, "weights": told},
        description=_description(folder, summary, best, told),
    )
    where = sweep_store(folder.path, space.tracking.mlflow).shown_uri
    done = "registered as" if is_new else "is registered already:"
    return f"{best.name} {done} models:/{name}/{version} at {where}"


def _winner(folder: SweepFolder, summary: SweepSummary) -> TrialRow:
    if any(not TrialState(row.state).is_final for row in summary.rows):
        raise InputError("the sweep has not ended", where=folder.name, mend=f"sweeper resume {folder.name}")
    if summary.best is None:
        raise InputError("no trial ran to its end, so there is no winner", where=folder.name)
    return summary.best


def _trained(folder: SweepFolder, space: SearchSpace, best: TrialRow, notice: Callable[[str], None]) -> Path:
    """Return the folder of the winner's model, trained here unless it is there already."""
    if space.trial is not None:
        mend = "give the folder of its model: --weights DIR"
        raise InputError("the winner was trained by a trainer of your own", where=folder.name, mend=mend)
    home = folder.winners / best.fingerprint
    if (home / "model").is_dir():
        return home / "model"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "config.yaml"
    config.write_text(make_export(folder, "yaml").text, encoding="utf-8")
    notice(f"{best.name} is trained again, as a sweep keeps no weights; to train it elsewhere: {config}")
    command = [sys.executable, "-m", "trials", str(config), "--out", str(home), "--save-weights"]
    done = subprocess.run([*command, "--checkpoints", str(home / "checkpoints"), "--resume"], check=False)
    if done.returncode:
        raise RecordError(f"training {best.name} again ended with code {done.returncode}")
    shutil.rmtree(home / "checkpoints")
    return home / "model"


def _model_files(place: Path) -> list[Path]:
    """Return the files of a model that can be loaded without running code of strangers."""
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else []
    names = {path.relative_to(place).as_posix() for path in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise InputError("holds no model: needs config.json and *.safetensors", where="--weights", got=str(place))
    return files


def _held_against_the_record(place: Path, folder: SweepFolder, fingerprint: str) -> str:
    """Say how the weights' own training compares with the trial's, where its record lies beside them."""
    record = place.parent / RECORD
    if not record.is_file():
        return "weights as given; no record of their training lies beside them"
    lines = record.read_text(encoding="utf-8").splitlines()
    again = _losses([Measurement.from_json(json.loads(line)) for line in lines])
    events = Spool(folder.path).read(fingerprint).events
    first = _losses([Measurement.from_json(each.body["measurement"]) for each in events if each.kind == "measured"])
    if again == first:
        return f"the same loss at each of {len(first)} optimizer steps as in the sweep"
    if len(again) != len(first):
        return f"{len(again)} optimizer steps, {len(first)} in the sweep"
    apart = max(abs(mine - theirs) / max(abs(theirs), 1e-12) for mine, theirs in zip(again, first, strict=True))
    return f"loss up to {number(100 * apart, 2)}% from the sweep's over {len(first)} optimizer steps"


def _losses(measurements: Sequence[Measurement]) -> list[float]:
    return [point.loss for each in measurements for point in each.series]


def _digest(files: Sequence[Path]) -> str:
    """Return the SHA-256 over all weights in the order of their names."""
    digest = hashlib.sha256()
    for path in files:
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _description(folder: SweepFolder, summary: SweepSummary, best: TrialRow, told: str) -> str:
    return (
        f"Winner of sweep {folder.name}: {best.name}, {summary.objective} {number(summary.standings[0].score, 6)}. "
        f"Weights: {told}. Load them with AutoModelForCausalLM.from_pretrained on the downloaded folder."
    )
