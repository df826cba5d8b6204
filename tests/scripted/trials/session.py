"""A scripted rank. ``SCRIPTED_FAULTS`` maps a cell to its fault.

``crash`` and ``hang`` strike once, on rank 1 on its way to the third milestone; ``crash-always`` and ``hang-always``
whenever it comes there; ``crash-each`` strikes once on the way to each milestone; ``torn`` is a crash that leaves the
newest checkpoint damaged. ``raise`` is an error of the user's code; ``slow`` takes half a second per milestone. The
folder ``SCRIPTED_MARKS`` gets a file per cell that was struck, with the milestones from which it went on. A milestone
takes ``SCRIPTED_MILESTONE_S`` seconds, and says that it took ``SCRIPTED_TOLD_S`` where that is set; with
``SCRIPTED_BY_RANKS`` it takes as many times that as there are ranks. A state takes ``SCRIPTED_STATE_BYTES``, 100 unless
told.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from sweeper.core.config import TrialConfig
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.milestones import Milestones
from sweeper.core.space import cell_name
from trials.curves import ends_after, signals

MILESTONE_S = float(os.environ.get("SCRIPTED_MILESTONE_S", "0.02"))
TOLD_S = os.environ.get("SCRIPTED_TOLD_S")


class TrialSession:
    def __init__(self, *, rank: int, world_size: int) -> None:
        self._rank = rank
        self._milestone_s = MILESTONE_S * (world_size if "SCRIPTED_BY_RANKS" in os.environ else 1)
        self._faults = json.loads(os.environ.get("SCRIPTED_FAULTS", "{}"))

    def connect(self, init_method: str) -> None:
        assert init_method.startswith("tcp://")

    def start(self, config: TrialConfig, milestones: Milestones) -> None:
        self._train = config.train
        self._milestones = milestones
        self._done = 0
        self._began = time.monotonic()
        axes = {"batch_size": config.train.batch_size, "learning_rate": config.train.learning_rate}
        self._cell = cell_name(axes)
        self._fault = self._faults.get(self._cell, "")

    def advance(self) -> Measurement | None:
        self._done += 1
        time.sleep(0.5 if self._fault == "slow" else self._milestone_s)
        if self._rank == 1 and self._fault == "crash-each":
            self._crash_once()
        elif self._done == 3 and self._rank == 1:
            self._misbehave()
        return None if self._rank else self._measurement()

    @property
    def milestone(self) -> int:
        return self._done

    @property
    def state_bytes(self) -> int:
        return int(os.environ.get("SCRIPTED_STATE_BYTES", "100"))

    def save_milestone(self, root: Path, *, keep: int) -> None:
        self._root = root
        if self._rank == 0:
            folder = root / f"step-{self._done:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "done").write_text(str(self._done).ljust(self.state_bytes))
            for old in sorted(root.glob("step-*"))[:-keep]:
                shutil.rmtree(old)

    def load_newest(self, root: Path) -> bool:
        found = sorted(root.glob("step-*"))
        if found:
            self._done = int((found[-1] / "done").read_text())
            if self._rank == 0:
                self._mark.parent.mkdir(exist_ok=True)
                with self._mark.open("a") as file:
                    file.write(f" {self._done}")
        return self._done > 0

    def finish_saving(self) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def _mark(self) -> Path:
        return Path(os.environ["SCRIPTED_MARKS"]) / self._cell

    def _crash_once(self) -> None:
        mark = self._mark.with_name(f"{self._cell}-{self._done}")
        if not mark.exists():
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
            os._exit(1)

    def _misbehave(self) -> None:
        if self._fault == "raise":
            raise ValueError("scripted failure")
        kind, _, always = self._fault.partition("-")
        if kind not in ("crash", "hang", "torn") or (self._mark.exists() and not always):
            return
        self._mark.parent.mkdir(exist_ok=True)
        self._mark.touch()
        if kind == "hang":
            time.sleep(3600)
        if kind == "torn":
            max(self._root.glob("step-*/done")).write_text("")
        os._exit(1)

    def _measurement(self) -> Measurement:
        samples = self._milestones.samples[self._done - 1]
        objective, loss, grad_norm = signals(self._train, self._done, len(self._milestones.samples), samples)
        point = StepPoint(
            step=self._done,
            samples_seen=samples,
            tokens_seen=10 * samples,
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=self._train.learning_rate,
            seconds=self._milestone_s,
        )
        return Measurement(
            milestone=self._done,
            samples_seen=samples,
            tokens_seen=10 * samples,
            step=self._done,
            warmup_done=True,
            train_loss=loss,
            grad_norm=grad_norm,
            scores={"heldout_loss": objective},
            train_s=time.monotonic() - self._began if TOLD_S is None else self._done * float(TOLD_S),
            eval_s=0.0,
            peak_memory_bytes=1,
            is_last=self._done == ends_after(self._train, len(self._milestones.samples)),
            series=(point,),
        )
