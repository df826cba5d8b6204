"""Sweeps a trainer of the user's own and watches the process table: ``python -m benchmarks.own_trainer SPACE.yaml``.

Prints, for each trial, how it ended, how many processes it had at most, and for how long after its end in the record
the last of them was still there; then which metrics its MLflow run holds that a native trial's does not, and the other
way round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

from mlflow import MlflowClient

import sweeper
from sweeper.core.layout import SweepFolder, sweeps_root

NATIVE = frozenset(
    {
        *("train/loss", "train/grad_norm", "train/learning_rate", "score/heldout_loss"),
        *("judged/train_loss", "judged/grad_norm"),
        *(f"progress/{name}" for name in ("optimizer_step", "tokens_seen", "step_s", "milestone", "train_s", "eval_s")),
        "system/peak_memory_bytes",
    }
)
"""What docs/record.md promises of any trial that has not ended by itself."""


class Watch:
    """Looks at the process table ten times a second, and keeps when each trial's processes were last there."""

    def __init__(self, outputs: Path) -> None:
        self.most: dict[str, int] = {}
        self.last_seen_s: dict[str, float] = {}
        self._mark = f"{outputs}/"
        threading.Thread(target=self._look_on, daemon=True).start()

    def now(self) -> dict[str, int]:
        """Return how many processes each trial has now, by fingerprint: its output folder is in their command line."""
        found: dict[str, int] = {}
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if self._mark in words:
                fingerprint = words.split(self._mark)[1].split("/")[0]
                found[fingerprint] = found.get(fingerprint, 0) + 1
        return found

    def _look_on(self) -> None:
        while True:
            for fingerprint, count in self.now().items():
                self.most[fingerprint] = max(count, self.most.get(fingerprint, 0))
                self.last_seen_s[fingerprint] = time.time()
            time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("space", type=Path)
    parser.add_argument("--sweep", required=True, help="name of the new sweep")
    options = parser.parse_args()
    folder = SweepFolder(sweeps_root() / options.sweep)
    watch = Watch(folder.outputs)
    began_s = time.monotonic()
    run = [sys.executable, "-m", "sweeper.cli", "run", str(options.space), "--sweep", options.sweep, "--plain"]
    code = subprocess.run(run, check=False).returncode
    elapsed_s = time.monotonic() - began_s
    print(f"\n{options.space}: exit code {code} after {elapsed_s:.0f} s; processes left: {watch.now()}")
    client = MlflowClient(folder.mlflow_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = {run.data.tags.get("sweeper.fingerprint"): run for run in client.search_runs(experiments)}
    for trial in sweeper.open(options.sweep).trials.itertuples():
        ended = runs[trial.fingerprint]
        metrics = {key for key in ended.data.metrics if not key.startswith("final/")} - {"non_finite"}
        after_s = watch.last_seen_s.get(trial.fingerprint, 0.0) - ended.info.end_time / 1000
        print(
            f"{trial.trial:14} {trial.state:9} {trial.rule:12} {watch.most.get(trial.fingerprint, 0)} processes, "
            f"gone {max(after_s, 0):.1f} s after the end; {len(metrics)} metrics, {len(metrics - NATIVE)} of its own, "
            f"{len(NATIVE - metrics)} missing"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
