"""Control over a sweep from another terminal: what may be asked, and what its driver does about it."""

from __future__ import annotations

import fcntl
import getpass
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_cells import CellRecord
from sweeper.adapters.study_commands import answer_to, give_answer, new_id, post, unanswered
from sweeper.adapters.yaml_space import apply_override
from sweeper.clones import clone_cell
from sweeper.core.command import Command, Kind, Orders
from sweeper.core.errors import InputError, LifecycleError
from sweeper.core.gang_shape import shape_of
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.program import processes_of
from sweeper.core.record import TrialInfo
from sweeper.core.verdict import prune
from sweeper.planned import PlannedCell, plan_cells
from sweeper.ports import Tracker
from sweeper.sweep import open_ledger, read_facts, reopen

USER_RULE: Final = "user"
"""Rule of the verdict by which a user ends a trial."""
ANSWER_WITHIN_S: Final = 15.0
"""How long a terminal waits for a running driver, which looks every second but may be in the middle of a save."""


def ask(folder: SweepFolder, kind: Kind, trial: str | None, *, settings: Sequence[str] = (), from_start: bool) -> str:
    """Ask the driver of a sweep for something, and return what came of it, in one line.

    Raises:
        InputError: there is no such trial, or what is asked cannot be done with it.
    """
    ledger = open_ledger(folder, reopen(folder)[0])
    cell = find_cell(ledger.cells(), trial, folder.name) if trial is not None else None
    command = Command(
        id=new_id(),
        kind=kind,
        trial=cell.fingerprint if cell is not None else "",
        settings=parse_settings(settings),
        from_start=from_start,
    )
    if cell is not None:
        refuse(command, cell)
    if command.kind == "clone":
        plan_clone(folder, ledger, command)
    is_driven = _is_driven(folder)
    if not is_driven and cell is None:
        raise InputError("no process runs this sweep", where=folder.name)
    post(ledger.study, command)
    if not is_driven:
        return f"kept; no process runs this sweep: it is taken up by sweeper resume {folder.name}"
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while time.monotonic() < deadline:
        if (answer := answer_to(ledger.study, command)) is not None:
            return answer
        time.sleep(0.2)
    return "asked; the sweep's process has not answered yet"


def find_cell(cells: Sequence[CellRecord], wanted: str, sweep: str) -> CellRecord:
    """Return the cell of this name, or whose fingerprint begins so.

    Raises:
        InputError: there is none, or the beginning fits several.
    """
    found = [cell for cell in cells if cell.name == wanted]
    found = found or [cell for cell in cells if len(wanted) >= 4 and cell.fingerprint.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    rule = "several fingerprints begin so" if found else "there is no such trial"
    raise InputError(rule, where=sweep, got=wanted, mend=f"sweeper status {sweep} names them all")


def refuse(command: Command, cell: CellRecord) -> None:
    """Raise InputError where the cell's state does not allow the command."""
    state = cell.state.value
    if command.kind == "stop" and cell.state.is_final:
        raise InputError("has ended already", where=cell.name, got=state)
    if command.kind == "unprune" and cell.state is not TrialState.PRUNED:
        raise InputError("is not pruned", where=cell.name, got=state)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as a mapping; dots stay in the keys, as in ``lora.rank``."""
    found: dict[str, Any] = {}
    for setting in settings:
        plain: dict[str, Any] = {}
        apply_override(plain, "grid." + setting)
        found |= plain["grid"]
    return found


def plan_clone(folder: SweepFolder, ledger: StudyLedger, command: Command) -> PlannedCell:
    """Return the cell that a clone command describes.

    Raises:
        InputError: its settings make no config, one that cannot run, or one that the sweep has already; or its ranks
            cannot be spread over the nodes of a gang.
    """
    source = ledger.cell(command.trial)
    cell = clone_cell(source, ledger.config(command.trial), command.settings, index=len(ledger.cells()))
    known = {each.fingerprint: each.name for each in ledger.cells()}
    if cell.fingerprint in known:
        raise InputError("the sweep has this cell already", where="--set", got=known[cell.fingerprint])
    planned = plan_cells([cell], read_facts(folder)["facts"])[0]
    if planned.infeasible is not None:
        raise InputError(f"cannot run: {planned.infeasible}", where=cell.name)
    resources = reopen(folder)[0].resources
    shape_of(
        cell.config.train.ranks,
        processes=processes_of(cell.config),
        cpus_per_rank=resources.cpus_per_rank,
        gpus_per_rank=resources.gpus_per_rank or 0.0,
        nodes=resources.nodes_per_trial,
    )
    return planned


class Desk:
    """Takes up the commands of a sweep. For the process that drives it."""

    def __init__(
        self,
        folder: SweepFolder,
        ledger: StudyLedger,
        trials: dict[str, TrialInfo],
        trackers: Sequence[Tracker],
        enter: Callable[[PlannedCell], None],
        notice: Callable[[str], None],
    ) -> None:
        """Keep what is needed.

        Args:
            trials: the sweep's trials by fingerprint.
            enter: makes a new cell's trial known to whoever runs trials.
            notice: told what came of each command.
        """
        self._folder = folder
        self._ledger = ledger
        self._trials = trials
        self._trackers = trackers
        self._enter = enter
        self._notice = notice
        self._act: Mapping[Kind, Callable[[Command], Orders]] = {
            "stop": self._stop,
            "unprune": self._unprune,
            "clone": self._clone,
        }

    def take(self) -> Orders:
        """Do what was asked since the last call, and answer; return what it means for the trials that run."""
        ended: list[str] = []
        has_new_cells = stops_sweep = False
        for command in unanswered(self._ledger.study):
            try:
                orders = self._act[command.kind](command)
                answer = self._answer(command)
            except (InputError, LifecycleError) as error:
                orders, answer = Orders(), f"refused: {error}"
            give_answer(self._ledger.study, command, answer)
            self._notice(answer)
            ended += orders.ended
            has_new_cells |= orders.has_new_cells
            stops_sweep |= orders.stops_sweep
        return Orders(ended=tuple(ended), has_new_cells=has_new_cells, stops_sweep=stops_sweep)

    def _answer(self, command: Command) -> str:
        if not command.trial:
            return "the sweep's process ends; go on: sweeper resume " + self._folder.name
        name = self._ledger.cell(command.trial).name
        if command.kind == "clone":
            return f"{self._ledger.cells()[-1].name} runs next, a clone of {name}"
        return f"{name} is ended" if command.kind == "stop" else f"{name} runs again"

    def _stop(self, command: Command) -> Orders:
        if not command.trial:
            return Orders(stops_sweep=True)
        cell = self._ledger.cell(command.trial)
        refuse(command, cell)
        verdict = prune(USER_RULE, f"ended by {_user()}", cell.samples_seen)
        for tracker in self._trackers:
            tracker.close_trial(self._trials[command.trial], TrialState.PRUNED, verdict, {})
        self._ledger.dismiss(command.trial, verdict)
        return Orders(ended=(command.trial,))

    def _unprune(self, command: Command) -> Orders:
        refuse(command, self._ledger.cell(command.trial))
        if command.from_start:
            shutil.rmtree(self._checkpoints(command.trial), ignore_errors=True)
        self._ledger.revive(command.trial)
        return Orders(has_new_cells=True)

    def _clone(self, command: Command) -> Orders:
        planned = plan_clone(self._folder, self._ledger, command)
        self._ledger.add_cell(
            planned.cell,
            planned_samples=planned.derived.planned_samples,
            calibration=False,
            clone_of=command.trial,
        )
        self._enter(planned)
        return Orders(has_new_cells=True)

    def _checkpoints(self, fingerprint: str) -> Path:
        return self._folder.checkpoints / fingerprint


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in many containers
        return "the user"


def _is_driven(folder: SweepFolder) -> bool:
    """Return whether a process drives the sweep now."""
    with folder.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
