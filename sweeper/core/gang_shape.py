"""What one gang occupies on a cluster, and how many gangs fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sweeper.core.errors import InputError
from sweeper.core.figures import plural

Strategy = Literal["PACK", "STRICT_PACK", "STRICT_SPREAD"]
"""As Ray names them: few nodes if possible, one node or none, as many nodes as bundles."""
_ROUNDING = 1e-9
"""Shares of a CPU or GPU add up to whole ones only to rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSize:
    """What a node offers to gangs."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GangShape:
    """The bundles of one gang; a bundle never spans nodes."""

    processes: int
    """What is started: the ranks, or the one command that starts them."""
    bundles: int
    cpus: float
    """CPU slots of one bundle."""
    gpus: float
    strategy: Strategy

    @property
    def processes_per_bundle(self) -> int:
        return self.processes // self.bundles

    def __str__(self) -> str:
        needs = [f"{self.cpus:g} CPU"] + ([f"{self.gpus:g} GPU"] if self.gpus else [])
        where = {"PACK": "", "STRICT_PACK": " on one node", "STRICT_SPREAD": ", each on a node of its own"}
        return f"{self.bundles} x ({', '.join(needs)}){where[self.strategy]}"


def shape_of(ranks: int, *, processes: int, cpus_per_rank: float, gpus_per_rank: float, nodes: int | None) -> GangShape:
    """Return the bundles of a gang.

    Args:
        processes: as many as ranks, or 1 where a single one starts all ranks.
        nodes: over how many nodes they are spread evenly; None means as few as there is room on.

    Raises:
        InputError: they cannot be spread evenly.
    """
    spread = nodes or 1
    if processes % spread:
        rule = f"{plural(processes, 'rank')} cannot be spread evenly over {spread} nodes"
        raise InputError(rule, where="resources.nodes_per_trial", got=nodes, mend="change it or train.ranks")
    bundles = spread if spread > 1 else processes
    strategy: Strategy = "STRICT_SPREAD" if spread > 1 else "PACK" if nodes is None else "STRICT_PACK"
    each = ranks / bundles
    return GangShape(
        processes=processes,
        bundles=bundles,
        cpus=each * cpus_per_rank,
        gpus=each * gpus_per_rank,
        strategy=strategy,
    )


def gangs_that_fit(shape: GangShape, nodes: Sequence[NodeSize]) -> int:
    """Return how many gangs of this shape fit on empty nodes at once."""
    room = [_bundles_on(node, shape) for node in nodes]
    if shape.strategy == "PACK":
        return sum(room) // shape.bundles
    if shape.strategy == "STRICT_PACK":
        return sum(each // shape.bundles for each in room)
    # So many gangs fit as every one of them finds enough nodes: a node serves a gang with one bundle at most.
    count = 0
    while sum(min(each, count + 1) for each in room) >= (count + 1) * shape.bundles:
        count += 1
    return count


def room_beside(gangs: Sequence[GangShape], nodes: Sequence[NodeSize]) -> tuple[NodeSize, ...] | None:
    """Return what empty nodes have left once these gangs are on them, None where they do not all fit.

    The largest gang first, each on the fullest nodes that have room; Ray may have laid them out otherwise. Gangs of one
    shape fit exactly where ``gangs_that_fit`` says so.
    """
    left = list(nodes)
    for gang in sorted(gangs, key=lambda each: (each.gpus * each.bundles, each.cpus * each.bundles), reverse=True):
        takes = _bundles_by_node(gang, left)
        if sum(takes) < gang.bundles:
            return None
        pairs = zip(left, takes, strict=True)
        left = [NodeSize(cpus=node.cpus - n * gang.cpus, gpus=node.gpus - n * gang.gpus) for node, n in pairs]
    return tuple(left)


def _bundles_by_node(gang: GangShape, nodes: Sequence[NodeSize]) -> list[int]:
    """Return how many of a gang's bundles go to each node; not all of them where there is no room."""
    room = [_bundles_on(node, gang) for node in nodes]
    fullest_first = sorted(range(len(nodes)), key=room.__getitem__)
    takes, needed = [0] * len(nodes), gang.bundles
    if gang.strategy == "STRICT_SPREAD":
        fullest_first.reverse()  # else the last gangs find too few nodes with room
        room = [min(each, 1) for each in room]
    for index in fullest_first:
        if gang.strategy != "STRICT_PACK" or room[index] >= gang.bundles:
            takes[index] = min(room[index], needed)
            needed -= takes[index]
    return takes


def _bundles_on(node: NodeSize, shape: GangShape) -> int:
    by_gpu = node.gpus / shape.gpus if shape.gpus else math.inf
    return math.floor(min(node.cpus / shape.cpus, by_gpu) + _ROUNDING)
