"""The files of paused trials: what is counted, what goes, and what a crash leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.adapters.ray.states import GIB, StateStore, memory_folder, size_of
from sweeper.core.pause import Place


def store_at(folder: Path) -> StateStore:
    return StateStore(folder / "disk", 1000 / GIB, folder / "memory", 500 / GIB)


def write(folder: Path, num_bytes: int, name: str = "step-000000001") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "weights").write_bytes(b"x" * num_bytes)


def test_a_state_counts_from_before_it_is_written(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    folder = store.begin("a", Place.MEMORY, 300)
    assert folder == tmp_path / "memory" / "a"
    assert store.kept["a"].num_bytes == 300
    write(folder, 200)
    store.finish("a", size_of(folder))
    assert (store.kept["a"].num_bytes, store.folder("a")) == (200, folder)
    assert store.begin("a", Place.MEMORY, 300) == folder
    assert store.kept["a"].num_bytes == 500, "the older one is there until the new one is whole"
    store.finish("a", 300)
    assert store.budgets() == {Place.DISK: 1000, Place.MEMORY: 500}


def test_a_state_that_moves_leaves_nothing_behind(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write(store.begin("a", Place.MEMORY, 300), 300)
    write(store.begin("a", Place.DISK, 300), 300)
    assert not (tmp_path / "memory" / "a").exists()
    store.drop("a")
    assert (store.folder("a"), dict(store.kept)) == (None, {})
    store.drop("a")
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_after_a_crash_whole_states_are_found_and_halves_deleted(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "a", 100)
    write(tmp_path / "disk" / "a", 70, ".step-000000002.unfinished")
    write(tmp_path / "memory" / "b", 50, ".step-000000002.unfinished")
    write(tmp_path / "memory" / "c", 60)
    store = store_at(tmp_path)
    assert {key: (each.place, each.num_bytes) for key, each in store.kept.items()} == {
        "a": (Place.DISK, 100),
        "c": (Place.MEMORY, 60),
    }
    assert not (tmp_path / "memory" / "b").exists()
    store.retain({"c", "unknown"})
    assert not (tmp_path / "disk" / "a").exists()
    store.close()
    assert (tmp_path / "memory" / "c").is_dir(), "it stays for the next run"


def test_a_disk_that_is_nearly_full_takes_less_than_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "disk" / "a", 100)
    store = store_at(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 30}))
    assert store.budgets() == {Place.DISK: 130, Place.MEMORY: 30}


def test_a_sweep_has_one_folder_in_memory_and_no_other_has_it(tmp_path: Path) -> None:
    assert memory_folder(tmp_path / "s") == memory_folder(tmp_path / "s")
    assert memory_folder(tmp_path / "s") != memory_folder(tmp_path / "t")
