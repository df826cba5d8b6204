"""A trial that finds no room says what it waits for, not too soon and not too often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sweeper.adapters.ray.waiting import SAY_AFTER_S, SAY_AGAIN_S, Waiting


def trial(name: str, status: str) -> Any:
    return SimpleNamespace(trial_id=name, status=status, config={"name": name})


def test_it_is_said_after_a_while_and_only_where_nothing_runs() -> None:
    said: list[str] = []
    clock = [0.0]
    waiting = Waiting(lambda trial: "8 x (1 GPU)", lambda: "4 GPUs on 1 node", said.append, lambda: clock[0])
    queued, busy = trial("b64", "PENDING"), trial("b16", "RUNNING")
    for now_s in (0.0, SAY_AFTER_S + 1):
        clock[0] = now_s
        waiting.look([queued, busy])
    assert said == []
    waiting.look([queued])
    clock[0] += SAY_AFTER_S + 1
    waiting.look([queued])
    waiting.look([queued])
    assert said == ["b64 waits for 8 x (1 GPU); the cluster has 4 GPUs on 1 node"]
    clock[0] += SAY_AGAIN_S
    waiting.look([queued])
    assert len(said) == 2
