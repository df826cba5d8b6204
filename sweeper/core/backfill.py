"""Which gang begins now, where gangs of several sizes share a cluster. Pure.

EASY backfilling (Lifka, The ANL/IBM SP Scheduling System, JSSPP 1995): the size that is wanted first and finds no room
gets a reservation, and others begin meanwhile only where they are expected not to delay it. Expectations may be wrong,
so nothing else begins any more once the reserved time has come: a large gang waits for those that run then, at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.core.gang_shape import GangShape, NodeSize, gangs_that_fit, room_beside


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """Trials of one gang size that wait."""

    ranks: int
    longest_s: float
    """How long the longest of those that come next is expected to take; infinite while nothing was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Occupied:
    """A gang that runs, or was told to and finds its room by itself."""

    ranks: int
    left_s: float
    """How long it is expected to go on; infinite while nothing was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Room is kept for gangs of this size."""

    ranks: int
    by_s: float
    """From this time on nothing else begins before one of them has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What begins now."""

    ranks: int | None
    """A gang of so many ranks; None: nothing."""
    reservation: Reservation | None
    """To be given back with the next question."""


def next_gang(
    demands: Sequence[Demand],
    *,
    occupied: Sequence[Occupied],
    shapes: Mapping[int, GangShape],
    nodes: Sequence[NodeSize],
    now_s: float,
    reservation: Reservation | None = None,
) -> Choice:
    """Choose the size of the gang to begin now.

    A size for which the cluster, though it were empty, has no room is passed over as long as there is another; then
    one of its gangs begins to wait on the cluster itself, so that one that grows sees what it is to grow for.

    Args:
        demands: what waits, each size once, the one that is wanted first at the front.
        shapes: of every size that waits or is occupied.
        nodes: the cluster as it is now.
        now_s: on any clock that ``reservation`` was made by.
        reservation: as the last answer had it.
    """
    possible = [each for each in demands if gangs_that_fit(shapes[each.ranks], nodes)]
    placed = [each for each in occupied if gangs_that_fit(shapes[each.ranks], nodes)]
    if not possible:
        is_seen = len(placed) < len(occupied)
        return Choice(ranks=None if is_seen or not demands else demands[0].ranks, reservation=None)
    head = possible[0]
    if reservation is not None:
        head = next((each for each in possible if each.ranks == reservation.ranks), head)
        reservation = reservation if head.ranks == reservation.ranks else None
    beside = [shapes[each.ranks] for each in placed]
    if _fits([*beside, shapes[head.ranks]], nodes):
        return Choice(ranks=head.ranks, reservation=None)
    wait_s, stay = _first_room(shapes[head.ranks], placed, shapes, nodes)
    by_s = min(now_s + wait_s, math.inf if reservation is None else reservation.by_s)
    kept = Reservation(ranks=head.ranks, by_s=by_s)
    if math.isinf(wait_s) or now_s >= by_s:
        return Choice(ranks=None, reservation=kept)
    for each in possible:
        shape = shapes[each.ranks]
        is_short = now_s + each.longest_s <= by_s
        if _fits([*beside, shape], nodes) and (is_short or _fits([*stay, shapes[head.ranks], shape], nodes)):
            return Choice(ranks=each.ranks, reservation=kept)
    return Choice(ranks=None, reservation=kept)


def _first_room(
    shape: GangShape, occupied: Sequence[Occupied], shapes: Mapping[int, GangShape], nodes: Sequence[NodeSize]
) -> tuple[float, list[GangShape]]:
    """Return when a gang first finds room, as far as is foreseen, and which of those that run still do so then."""
    in_order = sorted(occupied, key=lambda each: each.left_s)
    low, high = 0, len(in_order)  # so many have to end; the more have ended, the more room there is
    while low < high:
        middle = (low + high) // 2
        if _fits([*(shapes[each.ranks] for each in in_order[middle:]), shape], nodes):
            high = middle
        else:
            low = middle + 1
    wait_s = in_order[low - 1].left_s if low else 0.0
    return wait_s, [shapes[each.ranks] for each in in_order[low:] if each.left_s > wait_s]


def _fits(gangs: Sequence[GangShape], nodes: Sequence[NodeSize]) -> bool:
    return room_beside(gangs, nodes) is not None
