"""The MLflow tracker on a real SQLite store."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from record_cases import (
    grid,
    judged,
    measurements,
    mlflow_tables,
    play,
    play_trial,
    sweep_info,
    trial_info,
    wall_time_ms,
)

from sweeper.adapters.mlflow.store import connect, local_store
from sweeper.adapters.mlflow.tracker import MlflowTracker, TrackerBehind
from sweeper.adapters.mlflow.translate import points
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepInfo, TrialInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").write_bytes(mlflow_tables())
    return tmp_path


@pytest.fixture
def trackers(store_folder: Path) -> Iterator[Any]:
    made: list[MlflowTracker] = []

    def make(**options: Any) -> MlflowTracker:
        made.append(MlflowTracker(store_folder, flush_timeout_s=20, **options))
        return made[-1]

    yield make
    for tracker in made:
        tracker.close()


def _client(folder: Path) -> MlflowClient:
    return connect(local_store(folder))


def _runs(client: MlflowClient) -> dict[str, Run]:
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs), "a run was made twice"
    return {run.info.run_name: run for run in runs}


def _assert_every_point_once(client: MlflowClient, run: Run, trial: TrialInfo, sweep: SweepInfo) -> None:
    expected: Counter[tuple[str, int, int, str]] = Counter()
    for measurement in measurements(trial, sweep.milestones):
        found = points(measurement, wall_time_ms(measurement))
        expected.update((p.key, p.step, p.timestamp_ms, repr(p.value)) for p in found)
    for key in {key for key, *_ in expected}:
        history = client.get_metric_history(run.info.run_id, key)
        stored = Counter((m.key, m.step, m.timestamp, repr(m.value)) for m in history)
        assert stored == Counter({point: n for point, n in expected.items() if point[0] == key})


def test_a_sweep_becomes_one_experiment_of_flat_runs(tmp_path: Path, trackers: Any) -> None:
    sweep, trials = sweep_info(tmp_path), grid()
    doomed = trials[1]
    SweepFolder(tmp_path).plan_text.write_text("4 cells, 3 rank-hours\n")
    tracker = trackers()
    play(tracker, sweep, trials, explode=frozenset({doomed.name}))
    tracker.flush()

    client = _client(tmp_path)
    runs = _runs(client)
    assert set(runs) == {"summary", *(trial.name for trial in trials)}
    assert not any("mlflow.parentRunId" in run.data.tags for run in runs.values())
    _assert_every_point_once(client, runs[trials[0].name], trials[0], sweep)

    done, pruned = runs[trials[0].name], runs[doomed.name]
    assert (done.info.status, pruned.info.status, runs["summary"].info.status) == ("FINISHED", "KILLED", "FINISHED")
    assert done.data.tags["sweeper.state"] == "complete"
    assert pruned.data.tags["sweeper.rule"] == "non_finite"
    assert pruned.data.tags["sweeper.reason"] == "train_loss is inf at 128 samples"
    assert pruned.data.tags["sweeper.fingerprint"] == doomed.fingerprint
    assert math.isnan(pruned.data.metrics["train/loss"])
    assert pruned.data.metrics["non_finite"] == 1.0
    assert done.data.params["batch_size"] == "32"
    assert done.data.params["warmup_origin"] == "warmup_ratio"

    artifacts = tmp_path / "artifacts" / pruned.info.run_id / "artifacts"
    assert json.loads((artifacts / "verdict.json").read_text())["signals"] == {"train_loss": "Infinity"}
    assert json.loads((artifacts / "config.json").read_text())["train"]["learning_rate"] == 1e-3
    of_sweep = tmp_path / "artifacts" / runs["summary"].info.run_id / "artifacts"
    assert len((of_sweep / "trials.csv").read_text().splitlines()) == 1 + len(trials)
    assert (of_sweep / "plan.txt").read_text() == "4 cells, 3 rank-hours\n"


def test_a_second_process_that_plays_the_same_sweep_changes_nothing(tmp_path: Path, trackers: Any) -> None:
    """Even where it forgot how far the first one came, so that every point is sent again."""
    sweep, trials = sweep_info(tmp_path), grid(batch_sizes=(64,))
    first = trackers()
    play(first, sweep, trials)
    first.flush()
    first.close()
    (tmp_path / "spool" / "flushed.json").unlink()
    second = trackers()
    play(second, sweep, trials)
    second.flush()

    client = _client(tmp_path)
    runs = _runs(client)
    assert len(runs) == 1 + len(trials)
    for trial in trials:
        _assert_every_point_once(client, runs[trial.name], trial, sweep)


def test_a_resumed_trial_goes_on_in_its_own_run(tmp_path: Path, trackers: Any) -> None:
    sweep, trial = sweep_info(tmp_path), trial_info()
    first = trackers()
    first.open_sweep(sweep)
    first.open_trial(trial)
    early = list(measurements(trial, sweep.milestones))[:2]
    for measurement in early:
        first.measured(trial, measurement, judged(trial, measurement), wall_time_ms(measurement))
    first.flush()
    run = _runs(_client(tmp_path))[trial.name]
    assert run.info.status == "RUNNING"
    first.close()

    second = trackers()
    second.open_sweep(sweep)
    play_trial(second, sweep, trial)
    second.flush()
    client = _client(tmp_path)
    again = _runs(client)[trial.name]
    assert again.info.run_id == run.info.run_id
    assert again.info.status == "FINISHED"
    _assert_every_point_once(client, again, trial, sweep)


def test_a_failed_trial_is_failed_with_its_detail(tmp_path: Path, trackers: Any) -> None:
    tracker, trial = trackers(), trial_info()
    tracker.open_sweep(sweep_info(tmp_path))
    tracker.close_trial(trial, TrialState.FAIL, None, {}, "rank 1 ran out of memory")
    tracker.flush()
    run = _runs(_client(tmp_path))[trial.name]
    assert run.info.status == "FAILED"
    assert run.data.tags["sweeper.detail"] == "rank 1 ran out of memory"


def test_a_run_that_someone_deleted_is_written_again_whole(tmp_path: Path, trackers: Any) -> None:
    sweep, trial = sweep_info(tmp_path), trial_info()
    tracker = trackers()
    tracker.open_sweep(sweep)
    tracker.open_trial(trial)
    every = list(measurements(trial, sweep.milestones))
    tracker.measured(trial, every[0], judged(trial, every[0]), wall_time_ms(every[0]))
    tracker.flush()
    client = _client(tmp_path)
    client.delete_run(_runs(client)[trial.name].info.run_id)
    play_trial(tracker, sweep, trial)
    tracker.flush()
    _assert_every_point_once(client, _runs(client)[trial.name], trial, sweep)


def test_two_sweeps_of_one_name_in_one_store_do_not_mix(store_folder: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{store_folder}/mlflow.db"
    for folder in (tmp_path / "mine", tmp_path / "yours"):
        tracker = MlflowTracker(folder, uri=uri, flush_timeout_s=20)
        play(tracker, sweep_info(folder), [trial_info()])
        tracker.flush()
        tracker.close()
    names = {one.name for one in connect(tracker.store).search_experiments()} - {"Default"}
    assert len(names) == 2
    assert "made-up" in names


def test_the_driver_never_waits_and_flush_names_what_is_left(store_folder: Path, tmp_path: Path) -> None:
    troubles: list[str] = []
    uri = f"sqlite:///{tmp_path}/no-folder/x.db"
    (tmp_path / "no-folder").write_text("a file, so that nothing can be made below it")
    tracker = MlflowTracker(tmp_path, uri=uri, flush_timeout_s=1, on_trouble=troubles.append)
    started = time.monotonic()
    play(tracker, sweep_info(tmp_path), grid())
    assert time.monotonic() - started < 0.5
    with pytest.raises(TrackerBehind, match="behind for 5 of 5 files"):
        tracker.flush()
    tracker.close()
    assert len(troubles) == 1

    mended = MlflowTracker(tmp_path, flush_timeout_s=20)
    mended.open_sweep(sweep_info(tmp_path))
    mended.flush()
    mended.close()
    assert len(_runs(_client(tmp_path))) == 5


PLAY = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
import record_cases as cases
from sweeper.adapters.mlflow.tracker import MlflowTracker
folder = Path(sys.argv[1])
tracker = MlflowTracker(folder, flush_timeout_s=200)
sweep = cases.sweep_info(folder, milestones=8)
tracker.open_sweep(sweep)
for trial in cases.grid():
    cases.play_trial(tracker, sweep, trial)
    time.sleep(0.05)
tracker.flush()
print("flushed", flush=True)
"""


def test_killed_at_random_moments_every_point_is_there_exactly_once(tmp_path: Path, store_folder: Path) -> None:
    sweep = sweep_info(tmp_path, milestones=8)
    rng = random.Random(7)
    finished = False
    # From the import of mlflow (1 to 2 s) to the writes; the last one may end by itself.
    for delay_s in (*(rng.uniform(1.0, 3.0) for _ in range(3)), None):
        process = subprocess.Popen(
            [sys.executable, "-c", PLAY, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        try:
            output, _ = process.communicate(timeout=delay_s or 240)
            finished = "flushed" in output
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    assert finished

    client = _client(tmp_path)
    runs = _runs(client)
    assert set(runs) == {"summary", *(trial.name for trial in grid())}
    for trial in grid():
        _assert_every_point_once(client, runs[trial.name], trial, sweep)


def test_killed_while_the_tables_are_made_the_store_can_still_be_opened(tmp_path: Path) -> None:
    """MLflow itself cannot go on from a file that was left between two of its migrations."""
    code = "import sys; from pathlib import Path; from sweeper.adapters.mlflow.store import connect, local_store; "
    process = subprocess.Popen(
        [sys.executable, "-c", code + "connect(local_store(Path(sys.argv[1])))", str(tmp_path)],
        env=os.environ | {"SWEEPER_CACHE": str(tmp_path / "cache")},
    )
    part = tmp_path / "mlflow.db.part" / "part.db"
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None, "the tables were not made beside"
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "mlflow.db").exists()
    assert not list((tmp_path / "cache").rglob("*.db")), "only whole tables are kept for other sweeps"
    assert [one.name for one in _client(tmp_path).search_experiments()] == ["Default"]


def test_the_tables_of_a_first_store_are_those_of_the_next_and_nothing_else_of_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    _client(tmp_path / "first").create_experiment("mine")
    (kept,) = (tmp_path / "cache").rglob("*.db")
    made = kept.stat().st_mtime_ns
    second = _client(tmp_path / "second")
    assert [one.name for one in second.search_experiments()] == ["Default"]
    assert kept.stat().st_mtime_ns == made
    second.create_experiment("yours")
    assert "yours" not in {one.name for one in _client(tmp_path / "third").search_experiments()}


def test_a_curve_is_found_by_its_run_and_not_among_all_runs(store_folder: Path) -> None:
    """The two queries that MLflow makes for each curve of its charts."""
    curve = "SELECT value, timestamp, step, is_nan FROM metrics WHERE run_uuid = 'a' AND key = 'train/loss' ORDER BY "
    with closing(sqlite3.connect(store_folder / "mlflow.db")) as database:
        for order in ("step, timestamp, value, is_nan", "step DESC, timestamp DESC, value DESC, is_nan DESC LIMIT 1"):
            found = database.execute(f"EXPLAIN QUERY PLAN {curve}{order}").fetchone()[3]
            assert found.endswith("(run_uuid=? AND key=?)"), found


def test_a_flush_against_a_dead_server_gives_up_long_before_its_time_limit(tmp_path: Path) -> None:
    """The end of a sweep is no time to wait minutes for a server that is gone."""
    tracker = MlflowTracker(tmp_path, uri="http://127.0.0.1:9", flush_timeout_s=600, flush_patience_s=1)
    tracker.open_sweep(sweep_info(tmp_path))
    started = time.monotonic()
    with pytest.raises(TrackerBehind):
        tracker.flush()
    tracker.close()
    assert 1 < time.monotonic() - started < 60
