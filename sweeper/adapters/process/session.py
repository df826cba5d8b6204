"""One process of a gang whose trials a trainer of the user's own runs; has the methods of ``trials.session``."""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from sweeper.adapters.process.channel import Arrival, Channel
from sweeper.adapters.process.program import Program, search_path
from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import encode
from sweeper.core.derive import Derived, derive
from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement
from sweeper.core.milestones import Milestones
from sweeper.core.program import ProgramConfig, fill_in
from sweeper.trial import VARIABLE

FOLDER_VARIABLE: Final = "SWEEPER_PROGRAM_FOLDER"
"""Where the sweep was started: trainers are started there, and it tells a rank that it is to start one."""
OUTPUTS_VARIABLE: Final = "SWEEPER_PROGRAM_OUTPUTS"
"""The sweep's folder of trainers' files."""
POLL_S: Final = 0.2
MOST_CHARACTERS: Final = 70
"""Of a temporary folder's path: that of a socket in it is at most 107 long on Linux, 103 on macOS."""


class Source(Protocol):
    """Where a trial's measurements come from."""

    environment: Mapping[str, str | None]
    """Variables that the trainer needs, and those, as None, that it must not have."""

    @property
    def patience_s(self) -> float:
        """How long a trainer may take to leave by itself once it is told to stop; 0 where it cannot be told."""
        ...

    def next(self, wait_s: float) -> Arrival | None:
        """Return the next milestone that this process came to, if it comes to one within about so long.

        The end of training is for ``last``.
        """
        ...

    def last(self) -> Arrival:
        """Return the end of training, once the trainer has ended.

        Raises:
            InputError: the trainer ended before what was planned.
        """
        ...

    def go_on(self, milestone: int) -> None: ...

    def close(self) -> None:
        """Tell the trainer to stop, as far as it listens."""
        ...


class ProgramSession:
    """Runs trials one after another, each in processes of its own."""

    def __init__(self, *, rank: int, world_size: int) -> None:
        self._rank = rank
        self._ranks = world_size
        self._address = ""
        self._folder = os.environ[FOLDER_VARIABLE]
        self._outputs = Path(os.environ[OUTPUTS_VARIABLE])
        self._program: Program | None = None
        self._source: Source | None = None
        self.milestone = 0
        """Milestones measured."""

    def connect(self, init_method: str) -> None:
        """Remember where the ranks of a function are to meet, ``tcp://host:port``."""
        self._address = init_method

    def start(self, config: TrialConfig, milestones: Milestones) -> None:
        """Begin a trial; what is left of the one before is ended first."""
        self.end()
        program = config.trial
        assert program is not None
        self.milestone = 0
        derived = derive(config.train, program.train_samples)
        scratch = scratch_folder()
        output = self._outputs / fingerprint(config)
        output.mkdir(parents=True, exist_ok=True)
        self._source = _source(config, derived, milestones, scratch, is_first=self._rank == 0)
        told = {"config": encode(config), "milestones": milestones.samples, "output": str(output)}
        file = scratch / "trial.json"
        file.write_text(json.dumps({**told, "socket": str(scratch / "socket")}))
        places = {"python": sys.executable, "config": str(file), "output": str(output)}
        self._program = Program(
            self._argv(program, config, derived, places),
            folder=self._folder,
            environment=self._environment(program, {**self._source.environment, VARIABLE: str(file)}),
            log=output / f"log-{self._rank}.txt",
            scratch=scratch,
        )

    def advance(self) -> Measurement | None:
        """Wait for the next milestone; return the measurement on rank 0, None on the others.

        Raises:
            ProgramError: the trainer ended with an error.
            InputError: it ended without an error, too early.
        """
        assert self._program is not None
        assert self._source is not None
        self._source.go_on(self.milestone)
        while True:
            has_ended = self._program.wait(0)
            arrival = self._source.next(0 if has_ended else POLL_S)
            if arrival is None and has_ended:
                self._program.check()
                arrival = self._source.last()
            if arrival is not None:
                self.milestone = arrival.milestone
                return arrival.measurement

    def end(self) -> None:
        """End whatever trial runs, with all its processes; safe to repeat."""
        if self._source is not None:
            self._source.close()
        if self._program is not None:
            self._program.end(0 if self._source is None else self._source.patience_s)
        self._program = self._source = None

    def close(self) -> None:
        self.end()

    def _argv(
        self, program: ProgramConfig, config: TrialConfig, derived: Derived, places: Mapping[str, str]
    ) -> list[str]:
        if program.command is not None:
            return fill_in(program, config, derived, places)
        assert program.function is not None
        return [sys.executable, "-m", "sweeper.adapters.process.call", program.function]

    def _environment(self, program: ProgramConfig, own: Mapping[str, str | None]) -> dict[str, str]:
        """Return the trainer's environment: this process's less what is Ray's, torchrun's for a rank, and ``own``."""
        found: dict[str, str | None] = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        found |= {"PYTHONUNBUFFERED": "1", "PATH": search_path()}
        if program.function is not None:
            address = urlsplit(self._address)
            found |= {"RANK": str(self._rank), "WORLD_SIZE": str(self._ranks), "LOCAL_RANK": "0"}
            found |= {"MASTER_ADDR": str(address.hostname), "MASTER_PORT": str(address.port)}
        return {key: value for key, value in {**found, **own}.items() if value is not None}


def scratch_folder() -> Path:
    """Return a new folder that only this user can read; the keeper of the trial in it removes it."""
    root = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="sweeper-trial-", dir=root if len(root) <= MOST_CHARACTERS else "/tmp"))


class _Reports:
    """Measurements as this process's trainer reports them: one rank, or all that a command started."""

    patience_s: Final = 10.0

    def __init__(self, socket: Path, *, is_first: bool) -> None:
        """``is_first`` says whether rank 0 is among them."""
        self._channel = Channel(socket)
        self._is_first = is_first
        self._final: Arrival | None = None
        self.environment: Mapping[str, str | None] = {}

    def next(self, wait_s: float) -> Arrival | None:
        while True:
            try:
                arrival = self._channel.arrived.get(timeout=wait_s)
            except queue.Empty:
                return None
            if self._is_first == (arrival.measurement is None):
                continue  # A rank that the command started beside rank 0.
            if not arrival.is_last:
                return arrival
            self._final = arrival

    def last(self) -> Arrival:
        if self._final is None:
            raise InputError(
                "the trainer ended without an error, and without a report of its last samples",
                where="trial",
                mend="make trial.train_samples and train.epochs say what it does, and report every optimizer step",
            )
        return self._final

    def go_on(self, milestone: int) -> None:
        self._channel.go_on(milestone)

    def close(self) -> None:
        self._channel.close()


def _source(config: TrialConfig, derived: Derived, milestones: Milestones, scratch: Path, *, is_first: bool) -> Source:
    assert config.trial is not None
    if config.trial.signals == "mlflow":
        from sweeper.adapters.mlflow.foreign import LoggedRuns

        return LoggedRuns(config, derived, milestones, scratch / "mlflow")
    return _Reports(scratch / "socket", is_first=is_first)
