"""What a gang occupies, and how many fit on which nodes."""

from __future__ import annotations

import pytest

from sweeper.core.errors import InputError
from sweeper.core.gang_shape import GangShape, NodeSize, gangs_that_fit, shape_of

LAPTOP = (NodeSize(cpus=4),)
TWO_NODES = (NodeSize(cpus=3), NodeSize(cpus=3))
GPU_NODES = (NodeSize(cpus=64, gpus=8), NodeSize(cpus=64, gpus=8), NodeSize(cpus=64, gpus=4))


def shape(
    ranks: int, *, cpus: float = 1.0, gpus: float = 0.0, nodes: int | None = None, processes: int | None = None
) -> GangShape:
    return shape_of(ranks, processes=processes or ranks, cpus_per_rank=cpus, gpus_per_rank=gpus, nodes=nodes)


@pytest.mark.parametrize(
    ("wanted", "nodes", "expected"),
    [
        (shape(2), LAPTOP, 2),
        (shape(5), LAPTOP, 0),
        (shape(1, cpus=0.1), LAPTOP, 40),
        (shape(4), TWO_NODES, 1),
        (shape(4, nodes=1), TWO_NODES, 0),
        (shape(3, nodes=1), TWO_NODES, 2),
        (shape(2, nodes=2), TWO_NODES, 3),
        (shape(4, nodes=2), TWO_NODES, 1),
        (shape(2, nodes=2), LAPTOP, 0),
        (shape(8, gpus=1), GPU_NODES, 2),
        (shape(8, gpus=1, nodes=1), GPU_NODES, 2),
        (shape(8, gpus=1, nodes=2), GPU_NODES, 2),
        (shape(16, gpus=1, nodes=2), GPU_NODES, 1),
        (shape(1, gpus=0.25), GPU_NODES, 80),
        (shape(1, gpus=1), LAPTOP, 0),
        (shape(1), (), 0),
        (shape(4, processes=1), TWO_NODES, 0),
        (shape(3, processes=1), TWO_NODES, 2),
    ],
)
def test_gangs_fit_where_their_bundles_do(wanted: GangShape, nodes: tuple[NodeSize, ...], expected: int) -> None:
    assert gangs_that_fit(wanted, nodes) == expected


def test_ranks_that_cannot_be_spread_evenly_are_refused() -> None:
    with pytest.raises(InputError, match="3 ranks cannot be spread evenly over 2 nodes"):
        shape(3, nodes=2)


def test_a_shape_says_what_it_waits_for() -> None:
    assert str(shape(2)) == "2 x (1 CPU)"
    assert str(shape(8, gpus=1, nodes=1)) == "8 x (1 CPU, 1 GPU) on one node"
    assert str(shape(8, gpus=1, nodes=2)) == "2 x (4 CPU, 4 GPU), each on a node of its own"
