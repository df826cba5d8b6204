"""The throughput benchmark compares equal work: ours and the bare loop train the same batches to the same losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.throughput import bare, ours
from benchmarks.throughput.setup import Setup
from benchmarks.throughput.world import Shape, make_world

SMALL = Shape(hidden=32, layers=1, heads=2, kv_heads=1, intermediate=64, vocabulary=8192, tied=True)


def test_ours_and_the_bare_loop_train_the_same_tokens_to_the_same_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    make_world(tmp_path / "world", SMALL, data=None, seed=3, num_synthetic=64)
    setup = Setup(
        folder=str(tmp_path / "world"),
        batch_size=8,
        max_tokens_per_rank=1024,
        warmup_steps=1,
        steps=2,
        precision="fp32",
        device="cpu",
        seed=0,
    )

    mine, plain = ours.run(setup), bare.run(setup)

    assert mine.tokens == plain.tokens > 0
    assert mine.losses == pytest.approx(plain.losses, rel=1e-5)
