"""Sweeps from Python: what the command line does, as functions that return values. See docs/python.md."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.layout import SweepFolder, find_sweep, sweeps_root
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepSummary
from sweeper.core.space import Cell, SearchSpace

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.planning.make import Planned
    from sweeper.ports import View

Progress = Literal["auto", "plain", "quiet"]
"""``auto``: a live table in a terminal, else lines; ``plain``: lines; ``quiet``: only what went wrong."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Space:
    """A search space that was read and expanded, and found to be without fault."""

    definition: SearchSpace
    cells: tuple[Cell, ...]
    """Every cell of the grid, in its own order."""
    source: str
    """Where it comes from."""

    def __repr__(self) -> str:
        axes = " x ".join(f"{axis} ({len(values)})" for axis, values in self.definition.grid.items())
        return f"search space {self.definition.sweep}: {len(self.cells)} cells = {axes}"


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Plan:
    """What a sweep would do and cost."""

    made: Planned

    @property
    def cells(self) -> pd.DataFrame:
        """One row for each cell; memory is of one rank. NaN and empty where model or data do not tell."""
        import pandas as pd

        return pd.DataFrame(
            {
                "cell": each.planned.cell.name,
                **each.planned.cell.axes,
                "steps": each.planned.derived.total_steps,
                "warmup_steps": each.planned.derived.warmup_steps,
                "samples": each.planned.derived.planned_samples,
                "memory_bytes": each.memory.device if each.memory else math.nan,
                "seconds": each.seconds if each.work else math.nan,
                "gpu_hours": each.gpu_hours if each.work else math.nan,
                "infeasible": each.infeasible or "",
            }
            for each in self.made.cells
        )

    def __repr__(self) -> str:
        from sweeper.console.plan_tables import print_plan

        text = io.StringIO()
        print_plan(self.made.cells, self.made.total, self.made.hardware, self.made.speed, self.made.notes, text)
        return text.getvalue().rstrip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The trial that won."""

    name: str
    objective: float
    axes: Mapping[str, Any]
    fingerprint: str
    config: TrialConfig = field(repr=False)
    """Everything that decides its numbers."""


class Sweep:
    """A sweep on disk, as it stands whenever it is asked: it may be running, here or elsewhere."""

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def summary(self) -> SweepSummary:
        """Everything that is said of the sweep when it ends, as of now."""
        from sweeper.sweep import open_ledger, reopen, summary_of

        space, _ = reopen(self._folder)
        return summary_of(self._folder, space, open_ledger(self._folder, space))

    @property
    def best(self) -> Best | None:
        """The best trial of those that ran to their end; None while there is none."""
        from sweeper.sweep import open_ledger, reopen, summary_of

        space, _ = reopen(self._folder)
        ledger = open_ledger(self._folder, space)
        row = summary_of(self._folder, space, ledger).best
        if row is None:
            return None
        assert row.objective is not None
        config = decode(TrialConfig, ledger.config(row.fingerprint))
        return Best(name=row.name, objective=row.objective, axes=row.axes, fingerprint=row.fingerprint, config=config)

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each cell: ``trial``, the axes, ``state``, the objective under its own name, and what it cost.

        The objective is the last one measured, or NaN; ``rule`` and ``reason`` say why a trial ended early.
        """
        import pandas as pd

        summary = self.summary
        return pd.DataFrame(
            {
                "trial": row.name,
                **row.axes,
                "state": row.state,
                summary.objective: math.nan if row.objective is None else row.objective,
                "samples_seen": row.samples_seen,
                "planned_samples": row.planned_samples,
                "train_s": row.train_s,
                "eval_s": row.eval_s,
                "rule": row.rule,
                "reason": row.reason,
                "calibration": row.calibration,
                "fingerprint": row.fingerprint,
            }
            for row in summary.rows
        )

    @property
    def unfinished(self) -> int:
        """Cells that have not ended."""
        return sum(not TrialState(row.state).is_final for row in self.summary.rows)

    @property
    def exit_code(self) -> int:
        """What the command line returns: 0 done, 1 no trial ran to its end, 3 not all cells have ended."""
        from sweeper.drive import Outcome

        return Outcome(folder=self._folder, summary=self.summary, unfinished=self.unfinished).exit_code

    def resume(self, *, address: str | None = None, progress: Progress = "auto") -> Sweep:
        """Run exactly the cells that have not ended, and return this sweep."""
        from sweeper.drive import resume

        resume(self.name, view=_view(progress), address=address, root=self.folder.parent)
        return self

    def report(self, out: str | Path | None = None) -> Path:
        """Write the page on what the sweep taught, and return its path."""
        from sweeper.report.command import report

        return report(str(self.folder), None if out is None else Path(out))

    def __repr__(self) -> str:
        from sweeper.console.tables import print_status

        text = io.StringIO()
        print_status(self.summary, text)
        return f"sweep {self.name} in {self.folder}\n{text.getvalue().rstrip()}"


def load_space(source: str | Path | Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any] = ()) -> Space:
    """Read a search space and expand it.

    Args:
        source: a YAML file, the name of a search space that ships (``quickstart``), or the sections themselves.
        overrides: keys to change, ``{"train.epochs": 2}``, or as the command line takes them, ``["train.epochs=2"]``.

    Raises:
        InputError: with file, line and key of the first thing that is wrong.
    """
    from sweeper.adapters import yaml_space

    changes = yaml_space.written(overrides) if isinstance(overrides, Mapping) else overrides
    if isinstance(source, Mapping):
        name = str(source.get("sweep", "the search space"))
        definition, cells = yaml_space.read_space(yaml_space.text_of(source), name, changes)
        return Space(definition=definition, cells=cells, source=name)
    definition, cells = yaml_space.load_space(Path(source), changes)
    return Space(definition=definition, cells=cells, source=str(source))


def plan(
    space: Space | str | Path | Mapping[str, Any],
    *,
    gpu: str | None = None,
    gpus: int | None = None,
    gpu_memory_gib: float | None = None,
    price: float | None = None,
    earlier: str | None = None,
    like: Sequence[str] = (),
    probe: bool = False,
) -> Plan:
    """Return what each cell needs and what the sweep costs; run nothing, but for a probe.

    Args:
        space: a search space, or what ``load_space`` takes.
        gpu: plan for this GPU (``h100``), and this many ``gpus`` of them; None means what this machine has.
        gpu_memory_gib: memory of one GPU; None means what it is known to have.
        price: of one GPU-hour, in any currency.
        earlier: a sweep on the same hardware from whose trials the speed is learned.
        like: recorded sweeps whose replay tells what pruning will save.
        probe: run a few real steps of the extreme cells on this machine, and correct memory and time by them.

    Raises:
        InputError: the search space, its model or data, or an argument cannot be used.
    """
    from sweeper.planning.make import make_plan

    found = _loaded(space)
    made = make_plan(
        found.definition,
        found.cells,
        gpu=gpu,
        gpus=gpus,
        gpu_memory_gib=gpu_memory_gib,
        price=price,
        earlier=earlier,
        like=like,
        probe=probe,
    )
    return Plan(made=made)


def run(
    space: Space | str | Path | Mapping[str, Any],
    *,
    sweep: str | None = None,
    address: str | None = None,
    progress: Progress = "auto",
) -> Sweep:
    """Start a sweep, stay with it until it has ended, and return it.

    In a thread other than the main one no signal is handled. An interrupt ends it in order; ``resume`` goes on.

    Args:
        space: a search space, or what ``load_space`` takes.
        sweep: name of the sweep; None means the space's name and a number.
        address: a running Ray cluster, ``auto`` or ``HOST:PORT``; None starts Ray here.
        progress: what is shown meanwhile.

    Raises:
        InputError: the search space, model or data cannot be used, or the name is taken; nothing was written.
    """
    from sweeper.drive import run as drive

    found = _loaded(space)
    outcome = drive(
        found.definition, found.cells, source=found.source, view=_view(progress), sweep=sweep, address=address
    )
    return Sweep(outcome.folder)


def open(sweep: str | Path | None = None) -> Sweep:
    """Return a sweep by its name or folder; without one, that which was last written to.

    Raises:
        InputError: there is no such sweep.
    """
    return Sweep(find_sweep(None if sweep is None else str(sweep), sweeps_root()))


def _loaded(space: Space | str | Path | Mapping[str, Any]) -> Space:
    return space if isinstance(space, Space) else load_space(space)


def _view(progress: Progress) -> View:
    if progress == "quiet":
        from sweeper.console.quiet import QuietView

        return QuietView()
    from sweeper.console import make_view

    return make_view(plain=progress == "plain")
