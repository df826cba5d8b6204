"""Gangs of several sizes on one cluster: which begins when, and what that does to the sweep's end."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.backfill import Choice, Demand, Occupied, Reservation, next_gang
from sweeper.core.gang_shape import GangShape, NodeSize, gangs_that_fit, room_beside, shape_of
from sweeper.core.longest_first import Durations, Waiting, longest_first

FOUR = (NodeSize(cpus=4),)


def shape(ranks: int, nodes: int | None = None) -> GangShape:
    return shape_of(ranks, processes=ranks, cpus_per_rank=1.0, gpus_per_rank=0.0, nodes=nodes)


SHAPES = {ranks: shape(ranks) for ranks in (1, 2, 3, 4, 6, 8)}


def demand(*pairs: tuple[int, float]) -> list[Demand]:
    return [Demand(ranks=ranks, longest_s=longest_s) for ranks, longest_s in pairs]


def choose(
    demands: Sequence[Demand],
    *occupied: tuple[int, float],
    now_s: float = 0.0,
    reservation: Reservation | None = None,
    nodes: Sequence[NodeSize] = FOUR,
) -> Choice:
    gangs = [Occupied(ranks=ranks, left_s=left_s) for ranks, left_s in occupied]
    return next_gang(demands, occupied=gangs, shapes=SHAPES, nodes=nodes, now_s=now_s, reservation=reservation)


def test_what_is_wanted_first_begins_where_it_has_room() -> None:
    assert choose(demand((2, 9), (1, 5)), (2, 7)) == Choice(ranks=2, reservation=None)


def test_meanwhile_others_begin_that_end_before_the_one_that_waits_has_room() -> None:
    kept = Reservation(ranks=4, by_s=10.0)
    assert choose(demand((4, 9), (1, 10)), (3, 10)) == Choice(ranks=1, reservation=kept)
    assert choose(demand((4, 9), (1, 11)), (3, 10)) == Choice(ranks=None, reservation=kept)


def test_or_that_take_only_what_it_leaves() -> None:
    """At 10 three slots are needed of four: one is left over for as long as anybody likes."""
    assert choose(demand((3, 9), (1, 99)), (3, 10)).ranks == 1
    assert choose(demand((3, 9), (1, 99)), (2, 10), (1, 99)).ranks is None


def test_the_earliest_room_is_foreseen_from_those_that_end_first() -> None:
    found = choose(demand((3, 9), (1, 25)), (1, 30), (1, 20), (1, 10))
    assert found == Choice(ranks=None, reservation=Reservation(ranks=3, by_s=20.0))


def test_once_the_reserved_time_has_come_nothing_else_begins() -> None:
    kept = Reservation(ranks=4, by_s=10.0)
    late = choose(demand((4, 9), (1, 1)), (3, 50), now_s=10.0, reservation=kept)
    assert late == Choice(ranks=None, reservation=kept), "the others take longer than was foreseen"
    early = choose(demand((4, 9), (1, 1)), (3, 50), now_s=8.0, reservation=kept)
    assert early == Choice(ranks=1, reservation=kept)
    kept = Reservation(ranks=3, by_s=10.0)
    left_over = choose(demand((3, 9), (1, 1)), (3, 50), now_s=10.0, reservation=kept)
    assert left_over.ranks is None, "gangs may lie otherwise than is thought: then it would be in the way"


def test_a_reservation_outlasts_a_change_of_mind_about_what_is_longest() -> None:
    kept = Reservation(ranks=4, by_s=10.0)
    assert choose(demand((1, 99), (4, 9)), (3, 5), reservation=kept).ranks is None
    assert choose(demand((1, 99)), (3, 5), reservation=kept) == Choice(ranks=1, reservation=None)
    assert choose(demand((2, 99)), (3, 50), reservation=kept).reservation == Reservation(ranks=2, by_s=50.0)


def test_a_reserved_time_comes_closer_where_others_end_early_and_is_never_put_off() -> None:
    first = choose(demand((4, 9)), (3, 10)).reservation
    sooner = choose(demand((4, 9)), (3, 2), now_s=1.0, reservation=first).reservation
    assert sooner == Reservation(ranks=4, by_s=3.0)
    assert choose(demand((4, 9)), (3, 7), now_s=2.0, reservation=sooner).reservation == sooner


def test_while_nothing_was_measured_nothing_goes_ahead_of_what_waits() -> None:
    assert choose(demand((4, math.inf), (1, math.inf)), (3, math.inf)).ranks is None


def test_a_size_for_which_the_cluster_is_too_small_is_passed_over_until_it_is_alone() -> None:
    assert choose(demand((8, 99), (1, 1))).ranks == 1
    assert choose(demand((8, 99)), (1, 5)) == Choice(ranks=8, reservation=None)
    assert choose(demand((8, 99)), (1, 5), (8, 99)).ranks is None, "one of them asks for all"
    assert choose(demand((1, 1)), (8, 99)).ranks == 1, "what waits for a larger cluster takes nothing of this one"


@given(
    cpus=st.lists(st.integers(0, 9), max_size=5),
    ranks=st.integers(1, 6),
    spread=st.sampled_from([None, 1, 2]),
    count=st.integers(0, 12),
)
def test_gangs_of_one_shape_have_room_exactly_where_so_many_fit(
    cpus: list[int], ranks: int, spread: int | None, count: int
) -> None:
    nodes = [NodeSize(cpus=each) for each in cpus]
    one = shape(2 * ranks if spread == 2 else ranks, spread)
    left = room_beside([one] * count, nodes)
    assert (left is not None) == (count <= gangs_that_fit(one, nodes))
    if left is not None:
        assert min((node.cpus for node in left), default=0) >= 0
        assert sum(node.cpus for node in left) == sum(cpus) - count * one.bundles * one.cpus


# A sweep on a simulated clock.


@dataclass(frozen=True)
class Trial:
    ranks: int
    expected_s: float
    actual_s: float


@dataclass
class Run:
    """How a sweep went: when each trial began, and when the last one ended."""

    begins: dict[int, float]
    end_s: float = 0.0
    served_s: float = 0.0
    """Longest time from the moment when a size was first in line to the moment when one of its gangs began."""


Policy = Callable[[list[int], list[Occupied], float], tuple[int | None, int]]
"""Of the trials that wait: which begins, and the size that is first in line."""


def run(trials: Sequence[Trial], nodes: Sequence[NodeSize], policy: Policy) -> Run:
    now_s, waiting, running, found = 0.0, list(range(len(trials))), list[tuple[float, int]](), Run({})
    first: tuple[int, float] = 0, 0.0
    while waiting or running:
        occupied = [
            Occupied(ranks=trials[each].ranks, left_s=max(found.begins[each] + trials[each].expected_s - now_s, 0.0))
            for _, each in running
        ]
        begins, in_line = policy(waiting, occupied, now_s) if waiting else (None, 0)
        if in_line != first[0]:
            first = in_line, now_s
        if begins is None:
            now_s, _ = heapq.heappop(running)
            continue
        if trials[begins].ranks == in_line:
            found.served_s = max(found.served_s, now_s - first[1])
            first = 0, 0.0
        waiting.remove(begins)
        found.begins[begins] = now_s
        heapq.heappush(running, (now_s + trials[begins].actual_s, begins))
        found.end_s = max(found.end_s, now_s + trials[begins].actual_s)
        assert room_beside([SHAPES[trials[each].ranks] for _, each in running], nodes) is not None
    return found


def in_plain_order(trials: Sequence[Trial], nodes: Sequence[NodeSize]) -> Policy:
    """One after the other; whoever finds no room holds all others up."""

    def policy(waiting: list[int], occupied: list[Occupied], now_s: float) -> tuple[int | None, int]:
        ranks = trials[waiting[0]].ranks
        fits = room_beside([*(SHAPES[each.ranks] for each in occupied), SHAPES[ranks]], nodes) is not None
        return (waiting[0] if fits else None), ranks

    return policy


def longest_first_with_backfilling(trials: Sequence[Trial], nodes: Sequence[NodeSize]) -> Policy:
    reservation: Reservation | None = None

    def policy(waiting: list[int], occupied: list[Occupied], now_s: float) -> tuple[int | None, int]:
        nonlocal reservation
        longest: dict[int, float] = {}
        for each in waiting:
            longest[trials[each].ranks] = max(longest.get(trials[each].ranks, 0.0), trials[each].expected_s)
        order = sorted(longest, key=lambda ranks: (-longest[ranks], -ranks))
        in_line = order[0] if reservation is None or reservation.ranks not in order else reservation.ranks
        choice = next_gang(
            demand(*((ranks, longest[ranks]) for ranks in order)),
            occupied=occupied,
            shapes=SHAPES,
            nodes=nodes,
            now_s=now_s,
            reservation=reservation,
        )
        reservation = choice.reservation
        return next((each for each in waiting if trials[each].ranks == choice.ranks), None), in_line

    return policy


def random_mix(seed: int, *, off: float) -> tuple[list[Trial], list[NodeSize]]:
    """Return trials of several sizes in random order; ``off``: how far expectations may be from the truth, a share."""
    rng = random.Random(seed)
    nodes = [NodeSize(cpus=4)] * rng.choice([1, 2, 4])
    sizes = rng.sample([size for size in SHAPES if size <= 4 * len(nodes)], rng.choice([2, 3]))
    scaling = rng.uniform(0.0, 1.0)  # 0: all sizes take as long, 1: twice the ranks, half the time
    found = []
    for _ in range(rng.randint(8, 40)):
        ranks = rng.choice(sizes)
        expected_s = rng.choice([100, 300]) / ranks**scaling
        found.append(Trial(ranks, expected_s, expected_s * rng.uniform(1 - off, 1 + off)))
    return found, nodes


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_sweeps_of_mixed_sizes_end_earlier_than_in_plain_order(off: float) -> None:
    ratios, beyond = [], []
    for seed in range(40):
        trials, nodes = random_mix(seed, off=off)
        plain = run(trials, nodes, in_plain_order(trials, nodes)).end_s
        ours = run(trials, nodes, longest_first_with_backfilling(trials, nodes)).end_s
        area = sum(each.ranks * each.actual_s for each in trials) / sum(node.cpus for node in nodes)
        ratios.append(ours / plain)
        beyond.append(ours / max(area, *(each.actual_s for each in trials)))
    print(f"off {off}: {statistics.mean(ratios):.3f} of plain, worst {max(ratios):.3f}, {statistics.mean(beyond):.3f}")
    assert statistics.mean(ratios) < 0.9
    assert statistics.mean(ratio > 1.0 for ratio in ratios) < 0.2
    assert max(ratios) < 1.2


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_size_that_is_first_in_line_waits_for_those_that_run_at_most(seed: int) -> None:
    """Twice: until the reserved time, which is when those that run are expected to have ended, and then for others."""
    trials, nodes = random_mix(seed, off=0.5)
    found = run(trials, nodes, longest_first_with_backfilling(trials, nodes))
    assert set(found.begins) == set(range(len(trials)))
    assert found.served_s <= max(t.expected_s for t in trials) + max(t.actual_s for t in trials)


def test_a_large_gang_begins_though_small_trials_never_cease() -> None:
    """Small ones that are shorter than foreseen, or longer, and an endless supply of them."""
    for factor in (0.5, 1.0, 3.0):
        trials = [Trial(4, 50.0, 50.0)] + [Trial(1, 40.0, 40.0 * factor)] * 300
        trials[1:4] = [Trial(1, 40.0, 13.0), Trial(1, 40.0, 29.0), Trial(1, 40.0, 37.0)]
        waits = longest_first_with_backfilling(trials, FOUR)

        def policy(
            waiting: list[int], occupied: list[Occupied], now_s: float, waits: Policy = waits
        ) -> tuple[int | None, int]:
            unknown = [each for each in waiting if each or now_s > 0]  # the large one is asked for a little later
            return waits(unknown, occupied, now_s)

        begins = run(trials, FOUR, policy).begins
        assert begins[0] <= 40.0 + 40.0 * max(factor, 1.0)


def test_turns_come_before_length_and_length_before_size() -> None:
    waiting = [
        Waiting(turn=2, ranks=1, samples=1000),
        Waiting(turn=2, ranks=8, samples=1000),
        Waiting(turn=2, ranks=4, samples=900),
        Waiting(turn=1, ranks=2, samples=10),
        Waiting(turn=2, ranks=2, samples=9000),
    ]
    durations = Durations()
    assert [each.ranks for each in longest_first(waiting, durations)] == [2, 1, 4, 8]
    for key, ranks, seconds in (("a", 1, 10.0), ("b", 4, 10.0), ("c", 4, 30.0), ("d", 8, 10.0)):
        durations.measured(key, ranks, 100, seconds)
    assert longest_first(waiting, durations) == demand((2, 10 * 0.05), (4, 900 * 0.2), (8, 1000 * 0.1), (1, 1000 * 0.1))


def test_a_size_that_was_not_measured_is_as_fast_per_rank_as_the_nearest() -> None:
    durations = Durations()
    assert durations.expected_s(2, 100) == math.inf
    durations.measured("a", 1, 50, 5.0)
    durations.measured("a", 1, 100, 20.0)  # the same trial, further on
    assert durations.expected_s(1, 100) == pytest.approx(20.0)
    assert durations.expected_s(4, 100) == pytest.approx(5.0)
    durations.measured("b", 4, 100, 8.0)
    assert durations.expected_s(8, 100) == pytest.approx(4.0)
