"""What a sweep will do, before it does anything: facts about model and data, and which cells can run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper import programs
from sweeper.core.config import BUILTIN_PREFIX, DataConfig, ModelConfig, TrialConfig
from sweeper.core.decode import encode
from sweeper.core.derive import Derived, derive, infeasible_reason
from sweeper.core.errors import InputError, RecordError
from sweeper.core.milestones import Milestones
from sweeper.core.record import DataInput, TrialInfo
from sweeper.core.space import Cell

Facts = Mapping[str, Any]
"""What ``trials prepare`` found: at least ``train_samples``, the samples of one epoch. Dropped ones are left out, those
that phased training replays are in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCell:
    """A cell with its derived numbers, or the reason why it cannot run."""

    cell: Cell
    derived: Derived
    infeasible: str | None
    facts: Facts = field(default_factory=dict)
    """What is known of its model and data."""
    replicate_of: str = ""
    """Fingerprint of the cell that it repeats with a fresh seed; empty for a cell of the grid."""

    @property
    def milestones(self) -> Milestones:
        return Milestones.even(self.derived.planned_samples, self.cell.config.eval.milestones)

    def trial_info(self, *, calibration: bool) -> TrialInfo:
        cell = self.cell
        return TrialInfo(
            fingerprint=cell.fingerprint,
            name=cell.name,
            axes=cell.axes,
            config=cell.config,
            derived=self.derived,
            calibration=calibration,
            data=data_inputs(cell.config.data, self.facts),
            data_sha256=str(self.facts.get("data_sha256", "")),
            replicate_of=self.replicate_of,
        )


def find_facts(cells: Sequence[Cell], *, on_paper: bool = False) -> dict[str, Facts]:
    """Check model and data of every cell in a process of their own, and return what was found by ``facts_key``.

    Builtin models and data are made, and data sets tokenised into the cache, on the way. ``on_paper`` takes a model
    folder without weights or tokenizer too, which is enough to plan and not to run.

    Raises:
        InputError: a model or data set cannot be used.
    """
    distinct = {facts_key(cell.config): cell.config for cell in cells}
    return {key: find_config_facts(config, on_paper=on_paper) for key, config in distinct.items()}


def find_config_facts(config: TrialConfig, *, on_paper: bool = False) -> Facts:
    """Return what is found out about one config; see ``find_facts``."""
    if config.trial is not None:
        return programs.check(config.trial)
    environment = os.environ | offline_environment(config.model, config.data)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(encode(config), file)
        file.flush()
        command = [sys.executable, "-m", "trials", "prepare", file.name, "--json"]
        command += ["--on-paper"] if on_paper else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise RecordError(f"checking model and data ended with code {done.returncode} and no answer") from None
    if "error" in answer:
        raise InputError(str(answer["error"]))
    return answer


def facts_key(config: TrialConfig) -> str:
    """Return a key that configs share for which the same has to be checked: model, data, engine and LoRA or not."""
    parts = [encode(config.model), encode(config.data), config.train.engine, config.train.lora is not None]
    return json.dumps(parts, sort_keys=True)


def plan_cells(cells: Iterable[Cell], facts: Mapping[str, Facts]) -> tuple[PlannedCell, ...]:
    """Return every cell with its derived numbers, in the same order.

    Raises:
        RecordError: the facts are of other configs than these, as those of a sweep that another version made are.
    """
    planned = []
    for cell in cells:
        key = facts_key(cell.config)
        if key not in facts:
            raise RecordError(
                f"nothing is known about the model and data of cell {cell.name}: the sweep was made by a version of "
                "sweeper whose configs had other keys; use that version, or run the search space as a new sweep"
            )
        train_samples = int(facts[key]["train_samples"])
        planned.append(
            PlannedCell(
                cell=cell,
                derived=derive(cell.config.train, train_samples),
                infeasible=infeasible_reason(cell.config, train_samples),
                facts=facts[key],
            )
        )
    return tuple(planned)


def data_inputs(data: DataConfig, facts: Facts) -> tuple[DataInput, ...]:
    """Return the data sets of a config; those that the facts of an older sweep do not hold are left out."""
    train = zip(data.train, facts.get("train", ()), strict=False)
    test = ((path, facts.get("test", {}).get(name)) for name, path in data.test.items())
    found = [("train", path, each) for path, each in train] + [("test", path, each) for path, each in test]
    return tuple(
        DataInput(role=role, path=path, sha256=each["sha256"], samples=each["samples"], tokens=each["tokens"])  # type: ignore[arg-type]
        for role, path, each in found
        if each is not None
    )


def offline_environment(model: ModelConfig, data: DataConfig) -> dict[str, str]:
    """Return the variables that keep a trial from calling home; a hub name in the config lifts the hub's ban only."""
    quiet = {"TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    quiet |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    named = [model.path, *data.train, *data.test.values()]
    if all(path.startswith(BUILTIN_PREFIX) or os.path.exists(path) for path in named):
        quiet |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return quiet
