"""Rows of the comparison are made once: by the same commit, of the same curves."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.pruners import rows
from benchmarks.pruners.rows import Job, play_all


def _job(**change: object) -> Job:
    given = {"commit": "c0ffee", "rule": "nop", "curves": "a", "workers": 1, "orders": 2, "seed": 0}
    return Job(**{**given, **change})  # type: ignore[arg-type]


class Played(list[Job]):
    """The jobs that were played; called, it plays one."""

    def __call__(self, path: Path, job: Job) -> rows.Row:
        self.append(job)
        return {"saved": job.workers, "job": asdict(job)}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Threads in place of processes, so that what is played is seen."""
    monkeypatch.setattr(rows, "ProcessPoolExecutor", ThreadPoolExecutor)
    return Played()


def test_a_second_run_plays_only_what_is_missing(tmp_path: Path, played: Played) -> None:
    kept, path = tmp_path / "rows.jsonl", Path("grid")
    play_all([(path, _job())], kept, 1, played)
    found = play_all([(path, _job(workers=4)), (path, _job())], kept, 1, played)
    assert [row["saved"] for row in found] == [4, 1]
    assert [job.workers for job in played] == [1, 4]
    assert len(kept.read_text().strip().split("\n")) == 2


@pytest.mark.parametrize("change", [{"commit": "decaf"}, {"curves": "b"}, {"orders": 3}, {"seed": 1}])
def test_a_row_of_other_code_or_curves_is_played_anew(
    tmp_path: Path, played: Played, change: dict[str, object]
) -> None:
    kept = tmp_path / "rows.jsonl"
    play_all([(Path("grid"), _job())], kept, 1, played)
    play_all([(Path("grid"), _job(**change))], kept, 1, played)
    assert len(played) == 2


def test_rows_of_uncommitted_code_are_never_taken_up(tmp_path: Path, played: Played) -> None:
    kept = tmp_path / "rows.jsonl"
    for _ in range(2):
        play_all([(Path("grid"), _job(commit=""))], kept, 1, played)
    assert len(played) == 2


def test_a_torn_last_line_is_played_again(tmp_path: Path, played: Played) -> None:
    kept = tmp_path / "rows.jsonl"
    play_all([(Path("grid"), _job())], kept, 1, played)
    kept.write_text(kept.read_text().strip()[:-5])
    for _ in range(2):
        play_all([(Path("grid"), _job())], kept, 1, played)
    assert len(played) == 2
