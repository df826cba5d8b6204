"""How fast a large sweep's record reaches MLflow, what it costs a trial, and how soon the experiment's page opens.

``python benchmarks/mlflow_rate.py`` writes 1,000 trials x 500 optimizer steps x 8 metrics through the tracker of a
sweep, into SQLite or (``--server``) an MLflow server on SQLite. ``--outage S`` kills the server half-way and starts it
again after S seconds. Every point is counted in the database at the end. ``--page`` times the page in Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from record_cases import row, sweep_info, trial_info  # noqa: E402

from sweeper.adapters.mlflow.store import local_store, server_environment  # noqa: E402
from sweeper.adapters.mlflow.tracker import MlflowTracker  # noqa: E402
from sweeper.adapters.mlflow.translate import milestone_values, step_values  # noqa: E402
from sweeper.core.lifecycle import TrialState  # noqa: E402
from sweeper.core.measurement import Measurement, StepPoint  # noqa: E402
from sweeper.core.record import TrialInfo, summarise  # noqa: E402
from sweeper.core.verdict import proceed  # noqa: E402

MILESTONES = 10
BATCH = 32
START_MS = 1_700_000_000_000


def measurements(points: int) -> list[Measurement]:
    """Return what one trial reports: 8 metrics a step, and its milestones."""
    steps = [
        StepPoint(
            step=step,
            samples_seen=BATCH * step,
            tokens_seen=20_000 * step,
            loss=3.0 / step**0.1,
            grad_norm=1.0 + 1.0 / step,
            learning_rate=1e-4,
            seconds=1.0,
            extra={"noise_scale": 100.0, "update_ratio": 1e-3},
        )
        for step in range(1, points + 1)
    ]
    window = points // MILESTONES
    return [
        Measurement(
            milestone=place,
            samples_seen=BATCH * window * place,
            tokens_seen=20_000 * window * place,
            step=window * place,
            warmup_done=True,
            train_loss=steps[window * place - 1].loss,
            grad_norm=steps[window * place - 1].grad_norm,
            scores={"heldout_loss": 2.0},
            train_s=float(window * place),
            eval_s=1.0,
            peak_memory_bytes=1 << 30,
            is_last=place == MILESTONES,
            series=tuple(steps[window * (place - 1) : window * place]),
        )
        for place in range(1, MILESTONES + 1)
    ]


def write(
    tracker: MlflowTracker, folder: Path, trials: list[TrialInfo], points: int, half_way: Callable[[], None]
) -> float:
    """Feed a whole sweep to the tracker; return the seconds that the driver spent in it."""
    sweep = replace(sweep_info(folder, milestones=MILESTONES, samples=BATCH * points), cells=len(trials))
    reports, rows, spent_s = measurements(points), [], 0.0
    tracker.open_sweep(sweep)
    for place, trial in enumerate(trials):
        if place == len(trials) // 2:
            half_way()
        began = time.perf_counter()
        tracker.open_trial(trial)
        for each in reports:
            verdict = proceed("early_dynamics", "nothing against it", each.samples_seen)
            tracker.measured(trial, each, verdict, START_MS + 1000 * each.milestone)
        tracker.close_trial(trial, TrialState.COMPLETE, verdict, {"heldout_loss": 2.0 + 0.001 * place})
        spent_s += time.perf_counter() - began
        rows.append(row(trial, TrialState.COMPLETE, each, verdict))
    tracker.close_sweep(summarise(sweep, rows, elapsed_s=1.0))
    return spent_s


class Server:
    """An MLflow server on the sweep's own SQLite file, in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()

    def start(self) -> None:
        store = local_store(self._folder)
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri, "--workers", "1"]
        command += ["--default-artifact-root", str(store.artifacts), "--port", str(self.port)]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, env=server_environment(), start_new_session=True, **quiet)

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def stored(folder: Path) -> tuple[int, int]:
    """Return the points in the database, and how many of them differ."""
    with closing(sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=ro", uri=True)) as database:
        every = database.execute("SELECT count(*) FROM metrics").fetchone()[0]
        distinct = "SELECT count(*) FROM (SELECT DISTINCT run_uuid, key, step FROM metrics)"
        return int(every), int(database.execute(distinct).fetchone()[0])


def has_points(folder: Path) -> bool:
    try:
        return stored(folder)[0] > 0
    except sqlite3.OperationalError:
        return False  # The server has not made its tables yet.


def page_s(folder: Path) -> float:
    """Return the seconds from asking for the experiment's page to its charts, second visit of a browser."""
    import chromium
    import mlflow_pages

    with mlflow_pages.served(folder, 5098) as address, chromium.browsing() as browser:
        ready = "return document.querySelectorAll('.scatterlayer .trace').length > 30"
        for _ in range(2):
            began = time.perf_counter()
            browser.open(address)
            browser.wait(ready)
            took_s = time.perf_counter() - began
    return took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--outage", type=float, default=0.0, metavar="S")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the store here")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="mlflow-rate-"))
    folder.mkdir(parents=True, exist_ok=True)
    trials = [trial_info(BATCH, 1e-5 * (1 + place)) for place in range(args.trials)]
    server = Server(folder) if args.server else None

    def half_way() -> None:
        if server is not None and args.outage:
            while not has_points(folder):  # Killed in mid-sweep, not before it.
                time.sleep(0.5)
            server.kill()
            time.sleep(args.outage)
            server.start()

    uri = f"http://127.0.0.1:{server.port}" if server else None
    tracker = MlflowTracker(folder, uri=uri, flush_timeout_s=1e5, flush_patience_s=300, on_trouble=print)
    began, began_cpu = time.perf_counter(), time.process_time()
    driver_s = write(tracker, folder, trials, args.points, half_way)
    tracker.flush()
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    tracker.close()
    if server is not None:
        server.kill()
    reports = measurements(args.points)
    per_trial = sum(len(step_values(point)) for each in reports for point in each.series)
    per_trial += sum(len(milestone_values(each)) for each in reports) + 1
    every, distinct = stored(folder)
    told = {
        "store": "server" if server else "sqlite",
        "trials": args.trials,
        "points_expected": per_trial * args.trials,
        "points_stored": every,
        "points_doubled": every - distinct,
        "points_per_s": round(every / took_s),
        "took_s": round(took_s, 1),
        "outage_s": args.outage,
        "driver_ms_per_trial": round(1000 * driver_s / args.trials, 2),
        "process_cpu_ms_per_trial": round(1000 * cpu_s / args.trials, 1),
        "driver_share_of_a_trial_of_1_s_steps": driver_s / args.trials / args.points,
        "database_mb": round((folder / "mlflow.db").stat().st_size / 1e6, 1),
        "bytes_per_point": round((folder / "mlflow.db").stat().st_size / every, 1),
    }
    if args.page:
        told["page_s"] = round(page_s(folder), 2)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
