"""Cells that a user made out of others while a sweep ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import DecodeError, decode
from sweeper.core.errors import InputError
from sweeper.core.space import Cell, cell_name


def clone_cell(source: CellRecord, config: Mapping[str, Any], settings: Mapping[str, Any], *, index: int) -> Cell:
    """Return a copy of a cell with some training settings changed.

    Args:
        source: the cell to change.
        config: its plain config.
        settings: new values by name, as an axis is called: any ``train`` key, or ``lora.KEY``.
        index: position of the new cell.

    Raises:
        InputError: nothing is changed, or the settings make no config.
    """
    if not settings:
        raise InputError("needs at least one change", where="--set", got={}, mend="e.g. --set learning_rate=2e-5")
    train = dict(config["train"])
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        if section == "lora" and isinstance(train.get("lora"), Mapping):
            train["lora"] = {**train["lora"], key: value}
        elif section:
            raise InputError("a clone changes training settings only", where="--set", got=name)
        else:
            train[key] = value
    try:
        changed = decode(TrialConfig, {**config, "train": train})
    except DecodeError as error:
        raise InputError(error.rule, where=f"--set {'.'.join(map(str, error.path[1:]))}", got=error.got) from error
    axes = {**source.axes, **settings}
    return Cell(index=index, axes=axes, config=changed, fingerprint=fingerprint(changed), name=cell_name(axes))


def cloned_cells(ledger: StudyLedger) -> list[Cell]:
    """Return the cells of the study that lie on no grid, in the order in which they were made."""
    clones = [cell for cell in ledger.cells() if cell.clone_of]
    return [
        Cell(
            index=index,
            axes=cell.axes,
            config=decode(TrialConfig, ledger.config(cell.fingerprint)),
            fingerprint=cell.fingerprint,
            name=cell.name,
        )
        for index, cell in enumerate(clones, start=len(ledger.cells()) - len(clones))
    ]
