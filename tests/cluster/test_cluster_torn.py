"""A checkpoint that bears its name and cannot be read is set aside, and the one before it taken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from trial_cases import config, save_model, write_chats

from sweeper.adapters.ray.faults import TornCheckpoint
from sweeper.adapters.ray.rank import Rank
from sweeper.adapters.ray.trainable import set_aside
from sweeper.core.decode import encode

MILESTONES = (8, 16, 24, 32)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    # A rank sets this in its process, which is here that of all tests.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    file = write_chats(tmp_path / "train.jsonl", 32)
    return encode(config(save_model(tmp_path / "model"), file, {"t": file}, batch_size=8, milestones=4))


def started(plain: Any, root: Path) -> tuple[Rank, int]:
    rank = Rank(0, 1, {})
    rank.connect("")
    try:
        return rank, rank.start(plain, MILESTONES, {"root": str(root), "every": 1})
    except TornCheckpoint:
        rank.close()
        raise


def test_a_trial_goes_on_from_the_checkpoint_before_a_torn_one(plain: Any, tmp_path: Path) -> None:
    root = tmp_path / "kept"
    rank, passed = started(plain, root)
    assert passed == 0
    losses = [rank.advance()["train_loss"] for _ in MILESTONES]
    rank.close()
    newest = max(root.glob("step-*"))
    largest = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])

    with pytest.raises(TornCheckpoint, match="cannot be read") as caught:
        started(plain, root)
    assert caught.value.folder == str(newest)
    aside = Path(set_aside(newest))
    assert aside.exists()
    assert not newest.exists()

    rank, passed = started(plain, root)
    assert passed == 2
    assert [rank.advance()["train_loss"] for _ in MILESTONES[passed:]] == losses[passed:]
    rank.close()
