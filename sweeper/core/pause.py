"""Where a paused trial's state goes: memory, disk, or nowhere, to be trained again when it is promoted. Pure.

Memory if it fits, else disk, else whatever is least likely to be promoted makes room, the new state itself included.
A state is counted before it is written, so that no budget is ever exceeded.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from sweeper.core.promote import keeps_state

K = TypeVar("K", bound=Hashable)


class Place(StrEnum):
    MEMORY = "memory"
    DISK = "disk"
    NOWHERE = "nowhere"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A state that lies somewhere."""

    place: Place
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What one place can hold."""

    budget_bytes: int
    """All states together."""
    save_s: float
    """What saving the new state there costs."""
    restore_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement(Generic[K]):
    """What becomes of a state, and of others for its sake."""

    place: Place
    evicted: tuple[K, ...] = ()
    """States to be deleted before this one is written, in this order."""
    reason: str
    """One sentence, with the numbers."""


def place_state(
    num_bytes: int,
    *,
    trained_s: float,
    rooms: Mapping[Place, Room],
    kept: Mapping[K, Kept],
    spare: Collection[K],
    less_promising: Sequence[K],
) -> Placement[K]:
    """Decide where a trial's state goes as it is paused.

    A place comes into question where saving and restoring costs less than the training that would be repeated. Of
    those, memory comes before disk, and a place with room before one where others must go. Where others must go, it is
    the place where the most promising of them is the least so.

    Args:
        num_bytes: of the new state, at most.
        trained_s: seconds of a gang that training it again would take.
        rooms: the places there are.
        kept: every state that lies somewhere, those included that are being written.
        spare: keys of ``kept`` whose deletion costs nothing, for their trials have gone on since.
        less_promising: further keys of ``kept`` that may go, all less likely to be promoted than the new one, the
            least likely first.
    """
    worth = {p: room for p, room in rooms.items() if keeps_state(trained_s, room.save_s, room.restore_s)}
    if not worth:
        return Placement(place=Place.NOWHERE, reason=f"training {trained_s:.3g} s again is cheaper than saving it")
    order = (*(key for key in kept if key in spare), *less_promising)
    found: list[tuple[int, int, Placement[K]]] = []
    for rank, place in enumerate((Place.MEMORY, Place.DISK)):
        if place in worth:
            victims = _victims(num_bytes, worth[place].budget_bytes, place, kept, order)
            if victims is not None:
                dearest = max((order.index(key) + 1 for key in victims if key not in spare), default=0)
                reason = f"{num_bytes} bytes fit" + (f" in place of {len(victims)}" if victims else "")
                found.append((dearest, rank, Placement(place=place, evicted=victims, reason=reason)))
    if found:
        return min(found, key=lambda each: each[:2])[2]
    return Placement(place=Place.NOWHERE, reason=f"{num_bytes} bytes do not fit beside states that are worth more")


def _victims(
    num_bytes: int, budget_bytes: int, place: Place, kept: Mapping[K, Kept], order: Sequence[K]
) -> tuple[K, ...] | None:
    """Return what must go from this place, as few as possible from the front of the order; None where it is in vain."""
    free = budget_bytes - sum(each.num_bytes for each in kept.values() if each.place is place)
    victims: list[K] = []
    for key in order:
        if num_bytes <= free:
            break
        if kept[key].place is place:
            free += kept[key].num_bytes
            victims.append(key)
    return tuple(victims) if num_bytes <= free else None


FIRST_BYTES_PER_S: Final[Mapping[Place, float]] = {Place.MEMORY: 1e9, Place.DISK: 2e8}
"""Rates that are assumed until one was measured: of a single SATA disk, and of copying from one process to another."""
REMEMBERED: Final = 5
"""Saves by which the next one is foretold: a disk that is shared is not always as fast."""


def save_seconds(num_bytes: int, place: Place, past: Sequence[tuple[int, float]]) -> float:
    """Foretell how long saving takes, by the median rate of the latest saves there (bytes and seconds each)."""
    rates = [seconds / max(size, 1) for size, seconds in past[-REMEMBERED:]]
    return num_bytes * (statistics.median(rates) if rates else 1 / FIRST_BYTES_PER_S[place])
