"""Two trials that share a warm gang and are paused in turn train as if each had been alone: bit for bit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_jobs import state_sizes
from rank_processes import in_gang
from trial_cases import config, save_model, write_chats

from sweeper.adapters.ray.rank import Rank
from sweeper.adapters.ray.states import StateStore, size_of
from sweeper.core.decode import encode
from sweeper.core.pause import Place

MILESTONES = (8, 16, 24, 32)
TIMED = ("train_s", "eval_s", "peak_memory_bytes")
TIMED_EXTRA = ("tokens_per_s", "data_wait_share", "cpu_cores", "model_flops_per_s", "mfu")


@pytest.fixture
def plains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two cells with dropout, warmup and decay, so that everything there is must be restored."""
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    file = write_chats(tmp_path / "train.jsonl", 32)
    model = save_model(tmp_path / "model", attention_dropout=0.1)
    settings = {"batch_size": 8, "milestones": 4, "warmup_steps": 2, "schedule": "cosine"}
    rates = {"low": 1e-3, "high": 1e-2}
    return {
        name: encode(config(model, file, {"t": file}, learning_rate=rate, **settings)) for name, rate in rates.items()
    }


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rank]:
    # A rank sets this in its process, which is here that of all tests: sweeps started from it would listen to others.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    one = Rank(0, 1, {})
    one.connect("")
    yield one
    one.close()


def kept(tmp_path: Path, name: str) -> dict[str, Any]:
    return {"root": str(tmp_path / "kept" / name), "every": None, "paused": str(tmp_path / "paused" / name)}


def advanced(rank: Rank) -> dict[str, Any]:
    """Return the next measurement without what no two runs share."""
    measurement = rank.advance()
    assert measurement is not None
    for point in measurement["series"]:
        del point["seconds"]
    extra = {key: value for key, value in measurement["extra"].items() if key not in TIMED_EXTRA}
    return {key: value for key, value in measurement.items() if key not in TIMED} | {"extra": extra}


def test_paused_in_turn_both_measure_what_they_do_alone(plains: dict[str, Any], rank: Rank, tmp_path: Path) -> None:
    alone: dict[str, list[Any]] = {}
    for name, plain in plains.items():
        assert rank.start(plain, MILESTONES, None) == 0
        alone[name] = [advanced(rank) for _ in MILESTONES]
    assert alone["low"] != alone["high"]

    store = StateStore(tmp_path / "paused", disk_gib=1.0)
    shared: dict[str, list[Any]] = {name: [] for name in plains}
    for turn in range(len(MILESTONES)):
        for name, plain in plains.items():
            assert rank.start(plain, MILESTONES, kept(tmp_path, name)) == turn
            shared[name].append(advanced(rank))
            root = store.begin(name, Place.DISK, rank.state_bytes())
            assert rank.pause(str(root))
            assert size_of(root) <= rank.state_bytes(), "counted before it is written"
            assert [path.name for path in root.iterdir()] == [f"step-{turn + 1:09d}"]
            store.finish(name, size_of(root))
    assert shared == alone


def test_a_state_that_is_not_there_is_trained_again(plains: dict[str, Any], rank: Rank, tmp_path: Path) -> None:
    rank.start(plains["low"], MILESTONES, kept(tmp_path, "low"))
    first = advanced(rank)
    rank.start(plains["high"], MILESTONES, kept(tmp_path, "high"))
    rank.advance()
    assert rank.start(plains["low"], MILESTONES, kept(tmp_path, "low")) == 0
    assert advanced(rank) == first


SHARDED = (
    {"engine": "fsdp"},
    {"engine": "fsdp", "lora": {"rank": 4}},
    {"engine": "deepspeed", "zero_stage": 1},
    {"engine": "deepspeed", "zero_stage": 3},
)


@pytest.mark.long
def test_a_state_of_two_ranks_takes_no_more_than_they_say(plains: dict[str, Any], tmp_path: Path) -> None:
    plain = plains["low"]
    cases = [plain | {"train": plain["train"] | {"ranks": 2, **settings}} for settings in SHARDED]
    for at_most, written in in_gang(2, state_sizes, cases, str(tmp_path)):
        assert 0 < written <= at_most
