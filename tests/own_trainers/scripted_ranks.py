"""A trainer without torch. ``launch`` starts ranks as torchrun does, each in a session of its own.

A trial's loss falls towards a floor that its learning rate sets; from learning rate 1 on it explodes.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def curve(learning_rate: float, batch_size: int, samples: int) -> Iterator[tuple[int, float]]:
    """Yield samples seen and loss, step by step."""
    floor = 1 + (math.log10(learning_rate) + 4) ** 2
    for seen in range(batch_size, samples + batch_size, batch_size):
        yield seen, 50.0 * seen if learning_rate >= 1 else floor + 4 * math.exp(-seen / 300)


def sign(text: str) -> None:
    """Leave a line with this process's id in the folder that the test looks into."""
    with (Path(os.environ["SIGNED"]) / f"{os.getpid()}.txt").open("a") as file:
        file.write(text + "\n")


def train(config: Any) -> None:
    """One rank of a trial that is a function."""
    from sweeper.trial import current, report

    trial = current()
    assert trial is not None
    sign(f"began {config.train.learning_rate} {os.environ['RANK']}/{os.environ['WORLD_SIZE']}")
    if config.trial.settings.get("fails") and os.environ["RANK"] == "1":
        raise ValueError("scripted failure")
    for seen, loss in curve(config.train.learning_rate, config.train.batch_size, trial.derived.planned_samples):
        time.sleep(0.005)
        try:
            report(samples_seen=seen, loss=loss, grad_norm=loss / 2, learning_rate=0.1, heldout_loss=loss)
        except SystemExit:
            sign(f"stopped {seen}")
            raise
    sign("ended")


def log_to_mlflow(learning_rate: float, batch_size: int, samples: int) -> None:
    """A rank 0 that knows nothing of sweeps and logs in the words of ``transformers.Trainer``."""
    import mlflow

    with mlflow.start_run():
        for step, (_, loss) in enumerate(curve(learning_rate, batch_size, samples), start=1):
            time.sleep(0.05)
            mlflow.log_metrics({"loss": loss, "grad_norm": loss / 2, "learning_rate": learning_rate}, step=step)
            mlflow.log_metrics({"eval_loss": loss, "eval_runtime": 0.001}, step=step)
    sign("ended")


def main() -> None:
    role, learning_rate, batch_size, samples = sys.argv[1], *map(float, sys.argv[2:])
    if role == "launch":
        call = [sys.executable, __file__]
        ranks = [subprocess.Popen([*call, name, *sys.argv[2:]], start_new_session=True) for name in ("logs", "follows")]
        code = ranks[0].wait()
        ranks[1].terminate()
        sys.exit(code)
    sign(f"began {learning_rate} {role}")
    if role == "logs":
        log_to_mlflow(learning_rate, int(batch_size), int(samples))
    else:
        time.sleep(300)


if __name__ == "__main__":
    main()
