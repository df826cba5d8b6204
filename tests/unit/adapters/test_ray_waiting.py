"""A trial that finds no room says what it waits for, not too soon and not too often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sweeper.adapters.ray.waiting import SAY_AFTER_S, SAY_AGAIN_S, Waiting


def trial(name: str, status: str) -> Any:
    return SimpleNamespace(trial_id=name, status=status, config={"name": name})


def test_it_is_said_after_a_while_and_only_where_nothing_runs() -> None:
    """As long as others run, their ends may bring room."""
    said: list[str] = []
    clock = [0.0]
    waiting = Waiting(
        lambda trial: "8 x (1 GPU)", lambda: "4 GPUs on 1 node", lambda trial: True, said.append, lambda: clock[0]
    )
    queued, busy = trial("b64", "PENDING"), trial("b16", "RUNNING")
    for now_s in (0.0, SAY_AFTER_S + 1):
        clock[0] = now_s
        waiting.look([queued, busy], {})
    assert said == []
    waiting.look([queued], {})
    clock[0] += SAY_AFTER_S + 1
    waiting.look([queued], {})
    waiting.look([queued], {})
    assert said == ["b64 waits for 8 x (1 GPU); the cluster has 4 GPUs on 1 node"]
    clock[0] += SAY_AGAIN_S
    waiting.look([queued], {})
    assert len(said) == 2


def test_it_is_said_while_others_run_where_their_ends_will_bring_no_room() -> None:
    said: list[str] = []
    clock = [0.0]
    needs = {"b64": "8 x (1 GPU)", "b16": "1 x (1 GPU)"}
    waiting = Waiting(
        lambda trial: needs[trial.trial_id],
        lambda: "4 GPUs on 1 node",
        lambda trial: trial.trial_id == "b16",
        said.append,
        lambda: clock[0],
    )
    for now_s in (0.0, SAY_AFTER_S + 1):
        clock[0] = now_s
        live = [trial("b64", "PENDING"), trial("b16", "PENDING"), trial("b32", "RUNNING")]
        waiting.look(live, {"a trial of 9 ranks": "9 x (1 GPU)"})
    assert said == [
        "b64 waits for 8 x (1 GPU); the cluster has 4 GPUs on 1 node",
        "a trial of 9 ranks waits for 9 x (1 GPU); the cluster has 4 GPUs on 1 node",
    ]
