"""How the ranks of a trial may share a model."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.core.config import TrainConfig
from sweeper.core.errors import InputError


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"engine": "fsdp", "ranks": 4, "shard_ranks": 3}, "shard_ranks: must divide the 4 ranks, got 3"),
        ({"engine": "fsdp", "ranks": 4, "shard_ranks": 0}, "shard_ranks: must divide the 4 ranks, got 0"),
        ({"engine": "deepspeed", "ranks": 4, "shard_ranks": 2}, "shard_ranks: only engine 'fsdp' has it, got 2"),
        ({"engine": "single", "cpu_offload": True}, "cpu_offload: engine 'single' cannot, got True"),
        ({"engine": "single", "ranks": 2}, "ranks: engine 'single' has one rank, got 2"),
    ],
)
def test_a_layout_that_an_engine_does_not_have_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        TrainConfig(batch_size=8, learning_rate=1e-3, **settings)
    assert str(refused.value).startswith(complaint)


@pytest.mark.parametrize("shard_ranks", [1, 2, 4, None])
def test_any_divisor_of_the_ranks_may_share_a_copy(shard_ranks: int | None) -> None:
    config = TrainConfig(batch_size=8, learning_rate=1e-3, engine="fsdp", ranks=4, shard_ranks=shard_ranks)
    assert config.shard_ranks == shard_ranks
