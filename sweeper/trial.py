"""Inside a trial of your own trainer: the cell's config, and ``report``, which ends the trial when it is to end.

    from sweeper.trial import config, report

    for step, batch in enumerate(batches, start=1):
        ...
        report(samples_seen=step * batch_size, loss=loss, grad_norm=norm)

Needs the standard library alone. Outside a sweep there is no config, and ``report`` does nothing, so that the same
script also runs by itself. Every rank makes the same calls with the same ``samples_seen``: all of them wait at a
milestone until the judge has spoken, and all leave at the same step. Only rank 0's numbers are taken.
"""

from __future__ import annotations

import atexit
import functools
import json
import math
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.derive import derive
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.milestones import Milestones
from sweeper.core.window import Window

VARIABLE: Final = "SWEEPER_TRIAL"
"""Environment variable with the file that tells a process of its trial: ``config``, ``milestones``, ``socket``,
``output``."""


class TrialStopped(SystemExit):
    """The trial was pruned: leave it now. A ``SystemExit`` with code 0, so that nothing catches it by accident."""

    def __init__(self) -> None:
        super().__init__(0)


def config() -> TrialConfig | None:
    """Return this trial's config, or None outside a sweep."""
    trial = current()
    return None if trial is None else trial.config


def report(
    *,
    samples_seen: int,
    loss: float,
    grad_norm: float,
    step: int | None = None,
    tokens_seen: int = 0,
    learning_rate: float = math.nan,
    **scores: float,
) -> None:
    """Tell of one optimizer step, on every rank; at a milestone, wait for the verdict. Outside a sweep, do nothing.

    Args:
        samples_seen: samples trained on so far, by all ranks.
        loss: mean training loss over the step's batch, of all ranks. NaN and infinity are taken as they are.
        grad_norm: global gradient norm before clipping.
        step: optimizer steps done; default: ``samples_seen`` in batches.
        tokens_seen: tokens trained on so far, by all ranks.
        learning_rate: the rate that the step was taken with.
        scores: held-out scores by name (``heldout_loss=...``), kept for the next milestone; the objective is one of
            them. After the last step further ones may be told with the same ``samples_seen``.

    Raises:
        TrialStopped: the trial is pruned, on every rank at this step.
        InputError: ``samples_seen`` does not rise, or goes past what was planned.
    """
    trial = current()
    if trial is not None and trial.observe(
        samples_seen=samples_seen,
        loss=loss,
        grad_norm=grad_norm,
        step=step,
        tokens_seen=tokens_seen,
        learning_rate=learning_rate,
        scores=scores,
    ):
        raise TrialStopped


@functools.cache
def current() -> Trial | None:
    """Return the trial that this process is a rank of, or None outside a sweep."""
    file = os.environ.get(VARIABLE)
    return None if not file else Trial(json.loads(Path(file).read_text()), rank=int(os.environ.get("RANK", "0")))


class Trial:
    """One rank's side of a trial."""

    def __init__(self, told: dict[str, Any], rank: int) -> None:
        self.config = decode(TrialConfig, told["config"])
        self.milestones = Milestones(tuple(told["milestones"]))
        assert self.config.trial is not None
        self.derived = derive(self.config.train, self.config.trial.train_samples)
        self.output = Path(told["output"])
        """A folder for the trial's own files."""
        self.rank = rank
        self.stopped = False
        """Whether the trial is pruned: nothing more is to be trained."""
        self._socket = str(told["socket"])
        self._connection: Any = None
        self._window = Window(self.milestones, self.derived, self.config.train.batch_size)
        self._began_s = self._mark_s = time.monotonic()
        self._waited_s = 0.0
        self._eval_s = 0.0
        self._is_over = False
        atexit.register(self.finish)

    def is_due_at(self, samples_seen: int) -> bool:
        """Return whether the trial is measured once so many samples are trained on, the end included."""
        return self.milestones.passed(samples_seen) > self._window.milestone

    def evaluated(self, seconds: float) -> None:
        """Say that so much of the time since the last report went into evaluation."""
        self._eval_s += seconds
        self._mark_s += seconds

    def observe(
        self,
        *,
        samples_seen: int,
        loss: float,
        grad_norm: float,
        step: int | None = None,
        tokens_seen: int = 0,
        learning_rate: float = math.nan,
        scores: dict[str, float] | None = None,
    ) -> bool:
        """Do what ``report`` does, and return whether the trial is to stop instead of raising."""
        now_s = time.monotonic()
        self._window.add_scores({name: float(value) for name, value in (scores or {}).items()})
        if samples_seen != self._window.samples_seen or not self._window.is_whole:
            self._window.add(
                StepPoint(
                    step=step if step is not None else math.ceil(samples_seen / self.config.train.batch_size),
                    samples_seen=int(samples_seen),
                    tokens_seen=int(tokens_seen),
                    loss=float(loss),
                    grad_norm=float(grad_norm),
                    learning_rate=float(learning_rate),
                    seconds=now_s - self._mark_s,
                )
            )
        if self._window.is_due:
            self._send(self._measure(is_last=False))
            self._waited_s += time.monotonic() - now_s
        self._mark_s = time.monotonic()
        return self.stopped

    def finish(self) -> None:
        """Measure at the trial's end; called when the process exits, if not before. Safe to repeat.

        An end before what was planned is left to whoever started the process to see.
        """
        if self._is_over or self.stopped or not self._window.is_whole:
            return
        self._is_over = True
        self._send(self._measure(is_last=True))

    def _measure(self, *, is_last: bool) -> Measurement:
        return self._window.measure(
            train_s=time.monotonic() - self._began_s - self._waited_s - self._eval_s,
            eval_s=self._eval_s,
            peak_memory_bytes=peak_memory_bytes(),
            is_last=is_last,
        )

    def _send(self, measurement: Measurement) -> None:
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(self._socket)
            self._connection = connection.makefile("rw", encoding="utf-8")
        told = measurement.to_json() if self.rank == 0 else None
        message = {"milestone": measurement.milestone, "is_last": measurement.is_last, "measurement": told}
        self._connection.write(json.dumps(message) + "\n")
        self._connection.flush()
        answer = self._connection.readline()
        # Nobody answers where the sweep was ended meanwhile: so is this process, in a moment.
        self.stopped = not answer or bool(json.loads(answer)["stop"])


def peak_memory_bytes() -> int:
    """Return this process's highest memory so far: device memory where torch uses a GPU, else resident set size."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
