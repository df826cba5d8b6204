"""Reads back what a trainer that knows nothing of sweeps has logged to MLflow, and makes measurements of it.

The trainer logs into a store of its own, a file beside its process: nothing of it mixes with the sweep's record, no
server is asked, and one query brings all that is new.
"""

from __future__ import annotations

import functools
import math
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from sweeper.adapters.mlflow.store import SQLITE, Store, connect
from sweeper.adapters.process.channel import Arrival
from sweeper.core.config import TrialConfig
from sweeper.core.derive import Derived
from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.milestones import Milestones
from sweeper.core.window import Window

EVAL_SECONDS: Final = "eval_runtime"
"""What ``transformers.Trainer`` calls the seconds of one evaluation."""
# The table is a rowid table, so the rows after the last one seen are the new ones.
_NEW_ROWS: Final = "SELECT rowid, key, value, is_nan, step, timestamp FROM metrics WHERE rowid > ? ORDER BY rowid"
_BEGAN: Final = "SELECT MIN(start_time) FROM runs"


class Row(NamedTuple):
    """One logged value."""

    key: str
    value: float
    step: int
    timestamp_ms: int


class LoggedRuns:
    """One trial's measurements, from whatever runs its trainer logs. A step counts once a later one is logged."""

    patience_s: Final = 0.0

    def __init__(self, config: TrialConfig, derived: Derived, milestones: Milestones, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._file = folder / "mlflow.db"
        self._file.write_bytes(_empty_store())
        self.environment: Mapping[str, str | None] = {
            "MLFLOW_TRACKING_URI": f"{SQLITE}{self._file}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Those of the user's own shell would lead to what this store does not have.
            **dict.fromkeys(("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"), None),
        }
        self._steps = Steps(config, derived, milestones)
        self._seen = 0

    def next(self, wait_s: float) -> Arrival | None:
        measurement = self._steps.next()
        if measurement is None:
            time.sleep(wait_s)
            self._read()
            measurement = self._steps.next()
        return None if measurement is None else Arrival(measurement.milestone, False, measurement)

    def last(self) -> Arrival:
        self._read()
        measurement = self._steps.last()
        return Arrival(measurement.milestone, True, measurement)

    def go_on(self, milestone: int) -> None:
        """The trainer waits for nobody."""

    def close(self) -> None:
        """The trainer listens to nobody."""

    def _read(self) -> None:
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=20)) as database:
            found = database.execute(_NEW_ROWS, (self._seen,)).fetchall()
            began_ms = database.execute(_BEGAN).fetchone()[0]
        if found:
            self._seen = found[-1][0]
        self._steps.add([Row(key, _number(value, is_nan), step, at_ms) for _, key, value, is_nan, step, at_ms in found])
        self._steps.began_ms = began_ms


class Steps:
    """Logged values by step, on their way to measurements; pure."""

    def __init__(self, config: TrialConfig, derived: Derived, milestones: Milestones) -> None:
        assert config.trial is not None
        self._names = config.trial.names
        self._score_names = config.trial.score_names
        self._samples_per_step = config.train.batch_size if config.trial.steps == "optimizer_steps" else 1
        self._batch_size = config.train.batch_size
        self._window = Window(milestones, derived, config.train.batch_size)
        self._logged: dict[int, dict[str, tuple[float, int]]] = {}
        self._mark_ms: int | None = None
        self._first_ms: int | None = None
        self._eval_s = 0.0
        self.began_ms: int | None = None
        """When the first run began."""

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self._logged.setdefault(row.step, {})[row.key] = row.value, row.timestamp_ms

    def next(self) -> Measurement | None:
        """Return the next measurement that all is known for."""
        trained = [step for step in self._logged if self._names["loss"] in self._logged[step]]
        for step in sorted(step for step in self._logged if trained and step < max(trained)):
            self._take(step)
            if self._window.is_due:
                return self._window.measure(train_s=self._train_s, eval_s=self._eval_s)
        return None

    def last(self) -> Measurement:
        """Return the measurement at the end of training.

        Raises:
            InputError: the trainer logged nothing that can be used, or ended too early.
        """
        seen = sorted({key for values in self._logged.values() for key in values})
        for step in sorted(self._logged):
            self._take(step)
        if self._window.samples_seen == 0:
            raise InputError(
                f"the trainer has logged no {self._names['loss']!r} to the MLflow store at MLFLOW_TRACKING_URI",
                where="trial.metrics",
                got=seen,
                mend="name its metrics in trial.metrics; transformers: report_to='mlflow'",
            )
        return self._window.measure(train_s=self._train_s, eval_s=self._eval_s, is_last=True)

    @property
    def _train_s(self) -> float:
        if self._mark_ms is None or self._first_ms is None:
            return 0.0
        return max((self._mark_ms - self._first_ms) / 1000 - self._eval_s, 0.0)

    def _take(self, step: int) -> None:
        """Hand one step on to the window: its scores first known, then its training numbers."""
        values = self._logged.pop(step)
        numbers = {key: value for key, (value, _) in values.items()}
        scores = {ours: numbers[theirs] for ours, theirs in self._score_names.items() if theirs in numbers}
        self._eval_s += numbers.get(EVAL_SECONDS, 0.0)
        if self._names["loss"] in numbers:
            self._window.add(self._point(step, values, numbers))
        self._window.add_scores(scores)

    def _point(self, step: int, values: Mapping[str, tuple[float, int]], numbers: Mapping[str, float]) -> StepPoint:
        grad_norm = self._names["grad_norm"]
        if grad_norm not in numbers:
            raise InputError(
                f"the trainer logs {self._names['loss']!r} without {grad_norm!r}",
                where="trial.metrics",
                got=sorted(numbers),
                mend="name its gradient norm in trial.metrics.grad_norm",
            )
        now_ms = values[self._names["loss"]][1]
        if self._first_ms is None:
            self._first_ms = self._mark_ms = now_ms if self.began_ms is None else min(self.began_ms, now_ms)
        seconds, self._mark_ms = (now_ms - (self._mark_ms or now_ms)) / 1000, now_ms
        samples_seen = step * self._samples_per_step
        return StepPoint(
            step=math.ceil(samples_seen / self._batch_size),
            samples_seen=samples_seen,
            tokens_seen=int(numbers.get(self._names["tokens_seen"], 0)),
            loss=numbers[self._names["loss"]],
            grad_norm=numbers[grad_norm],
            learning_rate=numbers.get(self._names["learning_rate"], math.nan),
            seconds=seconds,
        )


def _number(value: float, is_nan: int) -> float:
    """Return what was logged: MLflow keeps NaN apart, and an infinity as the largest number."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


@functools.cache
def _empty_store() -> bytes:
    """Return a file with MLflow's tables and nothing in them: to make one takes 2 s, to copy it none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        connect(Store(uri=f"{SQLITE}{file}"))
        return file.read_bytes()
