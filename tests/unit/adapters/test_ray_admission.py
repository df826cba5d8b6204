"""Whose gang begins next: the queue is asked for a size that has room, and left alone where none has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper.adapters.ray.admission import ASK_AGAIN_S, Admission
from sweeper.adapters.ray.cluster import Cluster
from sweeper.core.backfill import Demand
from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.derive import derive
from sweeper.core.gang_shape import NodeSize
from sweeper.core.record import TrialInfo
from sweeper.core.search import LATER, Later
from sweeper.core.sections import Resources


def config(ranks: int) -> TrialConfig:
    train = {"batch_size": 8, "learning_rate": 1e-4, "ranks": ranks}
    return decode(TrialConfig, {"model": {"path": "m"}, "data": {"train": ["t"]}, "train": train})


def trial(name: str, ranks: int) -> TrialInfo:
    plain = config(ranks)
    return TrialInfo(fingerprint=name, name=name, axes={}, config=plain, derived=derive(plain.train, 64))


class Waiting:
    """Trials by name, in the order in which they are wanted; each takes ten seconds."""

    def __init__(self, *trials: TrialInfo, is_measured: bool = True) -> None:
        self.trials = list(trials)
        self.duration_s = 10.0 if is_measured else math.inf
        self.asked = 0

    def __call__(self, ranks: int | None = None) -> TrialInfo | Later | None:
        found = next((each for each in self.trials if ranks in (None, each.config.train.ranks)), None)
        if found is not None:
            self.trials.remove(found)
        return found

    def demands(self) -> Sequence[Demand]:
        self.asked += 1
        sizes = dict.fromkeys(each.config.train.ranks for each in self.trials)
        return [Demand(ranks=ranks, longest_s=self.duration_s) for ranks in sizes]

    def left_s(self, trial: TrialInfo) -> float:
        return self.duration_s


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def admission(queue: Waiting, sizes: Sequence[int], clock: Clock) -> Admission:
    cluster = Cluster(lambda: [NodeSize(cpus=4)])
    return Admission(queue, cluster, {ranks: config(ranks) for ranks in sizes}, Resources(), clock)


def admitted(queue: Waiting, sizes: Sequence[int], live: list[TrialInfo]) -> list[str]:
    """Return who begins at once, beside those that run."""
    admit, found = admission(queue, sizes, Clock()), []
    while isinstance(chosen := admit(live), TrialInfo):
        live = [*live, chosen]
        found.append(chosen.name)
    return found


def test_with_one_size_the_queue_is_taken_in_its_own_order_as_long_as_there_is_room() -> None:
    queue = Waiting(trial("a", 2), trial("b", 2), trial("c", 2))
    assert admitted(queue, [2], []) == ["a", "b"]
    assert queue.asked == 0


def test_small_gangs_take_what_a_large_one_that_waits_cannot_use_yet() -> None:
    queue = Waiting(trial("large", 4), trial("small", 1), trial("smaller", 1))
    assert admitted(queue, [1, 2, 4], [trial("runs", 2)]) == ["small", "smaller"]
    assert [each.name for each in queue.trials] == ["large"]


def test_before_anything_was_measured_they_do_not() -> None:
    queue = Waiting(trial("large", 4), trial("small", 1), is_measured=False)
    assert admitted(queue, [1, 2, 4], [trial("runs", 2)]) == []
    assert admitted(queue, [1, 2, 4], []) == ["large"]


def test_once_its_time_has_come_a_large_gang_is_next() -> None:
    clock, queue = Clock(), Waiting(trial("large", 4), *(trial(f"small{n}", 1) for n in range(9)))
    live = [trial("a", 2)]
    admit = admission(queue, [1, 2, 4], clock)
    assert isinstance(first := admit(live), TrialInfo)
    clock.s = 10.0
    assert admit([*live, first]) is LATER, "both take longer than was foreseen"
    clock.s = 20.0
    assert admit([first]) is LATER
    assert isinstance(last := admit([]), TrialInfo)
    assert last.name == "large"


def test_a_full_cluster_is_looked_at_once_a_second_and_whenever_a_trial_has_ended() -> None:
    clock, queue = Clock(), Waiting(trial("a", 4))
    admit = admission(queue, [1, 2, 4], clock)
    for clock.s in (0.0, 0.1, 0.2):
        assert admit([trial("runs", 1)]) is LATER
    assert queue.asked == 1
    clock.s = ASK_AGAIN_S
    assert admit([trial("runs", 1)]) is LATER
    assert queue.asked == 2
    assert isinstance(admit([]), TrialInfo)


def test_when_all_are_handed_out_the_queue_says_so() -> None:
    assert admission(Waiting(), [1, 2, 4], Clock())([trial("runs", 4)]) is None


def test_a_size_that_the_cluster_has_become_too_small_for_says_what_it_needs() -> None:
    nodes = [NodeSize(cpus=4)]
    queue = Waiting(trial("large", 8), trial("small", 1))
    admit = Admission(queue, Cluster(lambda: nodes), {ranks: config(ranks) for ranks in (1, 8)}, Resources(), Clock())
    assert isinstance(first := admit([]), TrialInfo)
    assert first.name == "small"
    assert admit.passed_over == {"a trial of 8 ranks": "8 x (1 CPU)"}
    assert isinstance(last := admit([first]), TrialInfo)
    assert last.name == "large", "it waits on the cluster itself, for all to see"
    assert admit([first, last]) is None
    assert admit.passed_over == {}
