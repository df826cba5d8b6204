"""Where a paused trial's state goes, by its size, the budgets, and what saving it costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.core.pause import Kept, Place, Placement, Room, place_state, save_seconds

MEMORY, DISK, NOWHERE = Place.MEMORY, Place.DISK, Place.NOWHERE
HALVES = {"kept": {"a": (DISK, 50), "b": (DISK, 50)}, "memory": 0}


def placed(
    num_bytes: int = 10,
    *,
    trained_s: float = 100.0,
    memory: int | None = 100,
    disk: int | None = 100,
    save_s: float = 1.0,
    kept: dict[str, tuple[Place, int]] | None = None,
    spare: str = "",
    less_promising: str = "",
) -> Placement[str]:
    """Keys are single letters."""
    budgets = {MEMORY: memory, DISK: disk}
    rooms = {p: Room(budget_bytes=b, save_s=save_s, restore_s=save_s) for p, b in budgets.items() if b is not None}
    return place_state(
        num_bytes,
        trained_s=trained_s,
        rooms=rooms,
        kept={key: Kept(place=place, num_bytes=size) for key, (place, size) in (kept or {}).items()},
        spare=set(spare),
        less_promising=list(less_promising),
    )


@pytest.mark.parametrize(
    ("case", "place", "evicted"),
    [
        ({}, MEMORY, ""),
        ({"memory": 9}, DISK, ""),
        ({"memory": None}, DISK, ""),
        ({"memory": 9, "disk": 9}, NOWHERE, ""),
        ({"trained_s": 2.0}, NOWHERE, ""),  # a save and a restore cost as much
        ({"trained_s": 2.1}, MEMORY, ""),
        ({"kept": {"a": (MEMORY, 91)}}, DISK, ""),
        ({"kept": {"a": (MEMORY, 90)}}, MEMORY, ""),
        ({"kept": {"a": (MEMORY, 91)}, "less_promising": "a"}, DISK, ""),  # nobody goes while there is room
        ({"kept": {"a": (MEMORY, 91), "b": (DISK, 91)}}, NOWHERE, ""),  # both are worth more
        ({"kept": {"a": (MEMORY, 91), "b": (DISK, 91)}, "less_promising": "ba"}, DISK, "b"),
        ({"kept": {"a": (MEMORY, 91), "b": (DISK, 91)}, "less_promising": "ab"}, MEMORY, "a"),
        ({"kept": {"a": (MEMORY, 91), "b": (DISK, 91)}, "spare": "b"}, DISK, "b"),
        ({**HALVES, "less_promising": "ba"}, DISK, "b"),
        ({"num_bytes": 60, **HALVES, "less_promising": "ba"}, DISK, "ba"),
        ({"num_bytes": 60, **HALVES, "less_promising": "b"}, NOWHERE, ""),
        ({"num_bytes": 60, **HALVES, "spare": "a", "less_promising": "b"}, DISK, "ab"),
    ],
)
def test_memory_comes_before_disk_and_the_least_promising_goes_first(case, place, evicted) -> None:
    answer = placed(**case)
    assert (answer.place, "".join(answer.evicted)) == (place, evicted)
    assert answer.reason


@given(
    num_bytes=st.integers(0, 60),
    budgets=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    sizes=st.lists(st.tuples(st.sampled_from([MEMORY, DISK]), st.integers(0, 50)), max_size=6),
    spared=st.integers(0, 6),
    ranked=st.integers(0, 6),
)
def test_no_budget_is_exceeded_and_nothing_goes_in_vain(num_bytes, budgets, sizes, spared, ranked) -> None:
    kept = dict(zip("abcdef", sizes, strict=False))
    for place, budget in zip((MEMORY, DISK), budgets, strict=True):
        if sum(size for where, size in sizes if where is place) > budget:
            return
    spare, others = "abcdef"[: min(spared, len(kept))], "abcdef"[min(spared, len(kept)) : len(kept)][:ranked]
    answer = placed(num_bytes, memory=budgets[0], disk=budgets[1], kept=kept, spare=spare, less_promising=others[::-1])
    left = {key: each for key, each in kept.items() if key not in answer.evicted}
    assert set(answer.evicted) <= {*spare, *others}
    if answer.place is NOWHERE:
        assert not answer.evicted
        return
    budget = budgets[0] if answer.place is MEMORY else budgets[1]
    there = sum(size for place, size in left.values() if place is answer.place)
    assert there + num_bytes <= budget
    for last in answer.evicted[-1:]:
        assert there + kept[last][1] + num_bytes > budget, "the last one need not have gone"
    assert all(kept[key][0] is answer.place for key in answer.evicted)


def test_a_save_takes_as_long_as_the_latest_ones_by_their_size() -> None:
    assert save_seconds(400_000_000, DISK, []) == pytest.approx(2.0)
    assert save_seconds(50, DISK, [(100, 10.0)]) == pytest.approx(5.0)
    assert save_seconds(50, DISK, [(100, 1000.0)] * 9 + [(100, 10.0)] * 3) == pytest.approx(5.0)
