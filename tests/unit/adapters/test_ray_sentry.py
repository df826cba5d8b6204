"""A trial's actor that says nothing for longer than its gang may take is killed, and no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sweeper.adapters.ray.gang import CONNECT_TIMEOUT_S
from sweeper.adapters.ray.sentry import GRACE_S, RESET_LIMIT_S, Sentry


class Watched:
    """Trials and a clock, and what the sentry killed."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.killed: list[Any] = []
        self.sentry = Sentry(100.0, kill=self.killed.append, now_s=lambda: self.now_s)

    def look(self, *trials: Any, resetting: tuple[Any, ...] = ()) -> list[Any]:
        self.killed.clear()
        self.sentry.look(trials, resetting)
        return list(self.killed)


def trial(name: str, status: str = "RUNNING") -> Any:
    state = SimpleNamespace(ray_actor=f"actor of {name}" if status == "RUNNING" else None)
    return SimpleNamespace(trial_id=name, status=status, temporary_state=state)


def test_each_report_sets_the_time_for_the_next_one() -> None:
    watched, quick, slow = Watched(), trial("quick"), trial("slow")
    assert watched.look(quick, slow) == []
    watched.sentry.heard(quick, {"limit_s": 10.0})
    watched.sentry.heard(slow, {"limit_s": 500.0})
    watched.now_s = 9.0 + GRACE_S
    assert watched.look(quick, slow) == []
    watched.now_s = 11.0 + GRACE_S
    assert watched.look(quick, slow) == ["actor of quick"]
    assert watched.sentry.was_silent(quick)
    assert not watched.sentry.was_silent(quick), "it is told once"
    assert not watched.sentry.was_silent(slow)


def test_before_its_first_report_an_actor_has_time_for_a_cold_gang_and_twice_the_users_limit() -> None:
    watched, cold = Watched(), trial("cold")
    watched.look(cold)
    watched.now_s = 2 * CONNECT_TIMEOUT_S + 200.0
    assert watched.look(cold) == []
    watched.now_s += 2 * GRACE_S
    assert watched.look(cold) == ["actor of cold"]


def test_a_trial_that_waits_for_resources_is_never_late() -> None:
    watched, waiting = Watched(), trial("waiting", status="PENDING")
    watched.look(waiting)
    watched.now_s = 1e6
    assert watched.look(waiting) == []
    waiting.status, waiting.temporary_state.ray_actor = "RUNNING", "new"
    assert watched.look(waiting) == [], "its time begins when it runs"


def test_an_actor_that_does_not_take_over_the_next_cell_is_killed() -> None:
    watched, next_cell = Watched(), trial("next")
    next_cell.status = "PENDING"
    watched.look(next_cell, resetting=(next_cell,))
    watched.now_s = RESET_LIMIT_S - 1
    assert watched.look(next_cell, resetting=(next_cell,)) == []
    watched.now_s += 2
    assert watched.look(next_cell, resetting=(next_cell,)) == ["actor of next"]
