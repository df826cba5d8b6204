"""The driver's own work on many trials, without Ray: propose, judge, record, conclude."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

from sweeper.adapters.mlflow.tracker import MlflowTracker
from sweeper.adapters.study import StudyLedger
from sweeper.adapters.study_storage import storage_for
from sweeper.core.config import TrainConfig
from sweeper.core.derive import derive
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.objective import Objective
from sweeper.core.record import TrialInfo
from sweeper.core.sections import OrderConfig
from sweeper.core.space import Cell, SearchSpace, expand
from sweeper.judge import Judge
from sweeper.proposer import Proposer
from sweeper.pruners.compose import from_spec

MILESTONES = 8
SAMPLES = 1024


class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def drive_many(folder: Path, trials: int) -> tuple[list[float], list[float], list[float]]:
    """Return seconds on the clock and on the CPU of each decision, and resident memory in MB after each trial.

    A decision is what Tune waits for between two steps of a trial: measurement to study and spool, and the verdict.
    """
    cells = many_cells(trials)
    ledger = StudyLedger.open(
        storage_for(folder / "study.journal"), "many", Objective(), pruner=from_spec(["median"], direction="minimize")
    )
    infos = {}
    for cell in cells:
        derived = derive(cell.config.train, SAMPLES)
        ledger.add_cell(cell, planned_samples=SAMPLES, calibration=cell.index < 4)
        infos[cell.fingerprint] = TrialInfo(
            fingerprint=cell.fingerprint,
            name=cell.name,
            axes=cell.axes,
            config=cell.config,
            derived=derived,
            calibration=cell.index < 4,
        )
    tracker = MlflowTracker(folder)
    judge = Judge(Objective(), ledger, (tracker,), WallClock())
    propose = Proposer(ledger, infos, OrderConfig(), [cell.fingerprint for cell in cells[:4]], maximize=False)
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    memory = [resident_mb()]
    while (trial := propose()) is not None:
        judge.begin(trial)
        for milestone in range(1, MILESTONES + 1):
            measurement = measured(trial, milestone)
            began, cpu_began = time.perf_counter(), time.process_time()
            verdict = judge.observe(trial, measurement)
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - cpu_began)
            if verdict.prunes:
                break
        judge.conclude(trial)
        memory.append(resident_mb())
    return seconds, cpu_seconds, memory


def many_cells(count: int) -> tuple[Cell, ...]:
    rates = [1e-6 * 1.01**place for place in range(count // 4)]
    plain = {"model": {"path": "m"}, "data": {"train": ["t"], "test": {"new": "n"}}}
    from sweeper.core.decode import decode

    grid = {"batch_size": [16, 32, 64, 128], "learning_rate": rates}
    return expand(decode(SearchSpace, {"sweep": "many", **plain, "grid": grid}))


def measured(trial: TrialInfo, milestone: int) -> Measurement:
    train: TrainConfig = trial.config.train
    samples = SAMPLES * milestone // MILESTONES
    noise = random.Random(f"{trial.fingerprint} {milestone}").gauss(0, 0.01)
    loss = 1 + 0.1 * (math.log10(train.learning_rate) + 4) ** 2 + 4 * math.exp(-samples / 300) + noise
    steps = max(1, SAMPLES // MILESTONES // train.batch_size)
    point = StepPoint(
        step=1, samples_seen=samples, tokens_seen=samples, loss=loss, grad_norm=loss, learning_rate=1e-4, seconds=0.1
    )
    return Measurement(
        milestone=milestone,
        samples_seen=samples,
        tokens_seen=samples,
        step=milestone,
        warmup_done=True,
        train_loss=loss,
        grad_norm=loss,
        scores={"heldout_loss": loss},
        train_s=float(milestone),
        eval_s=0.0,
        peak_memory_bytes=1,
        is_last=milestone == MILESTONES,
        series=(point,) * steps,
    )


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
