"""How many gangs run at once follows from the cluster as it is now."""

from __future__ import annotations

import pytest

from sweeper.adapters.ray.cluster import Cluster
from sweeper.adapters.ray.versions import differences
from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.errors import InputError
from sweeper.core.gang_shape import NodeSize
from sweeper.core.sections import Resources


def trial(ranks: int) -> TrialConfig:
    train = {"batch_size": 8, "learning_rate": 1e-4, "ranks": ranks}
    return decode(TrialConfig, {"model": {"path": "m"}, "data": {"train": ["t"]}, "train": train})


def test_as_many_gangs_run_as_there_is_room_for() -> None:
    cluster = Cluster(lambda: [NodeSize(cpus=4)])
    assert [cluster.has_room(running, trial(2), Resources()) for running in range(4)] == [True, True, False, False]


def test_one_gang_is_always_proposed_so_that_a_cluster_that_grows_sees_what_it_is_to_grow_for() -> None:
    assert Cluster(lambda: []).has_room(0, trial(2), Resources())
    assert not Cluster(lambda: []).has_room(1, trial(2), Resources())


def test_a_gang_that_fits_nowhere_is_refused_with_what_it_needs_and_what_there_is() -> None:
    cluster = Cluster(lambda: [NodeSize(cpus=3), NodeSize(cpus=3)])
    cluster.refuse_what_never_fits([trial(1), trial(6)], Resources())
    with pytest.raises(InputError, match=r"a gang of 4 ranks needs 4 x \(1 CPU\) on one node; the cluster has 6 CPUs"):
        cluster.refuse_what_never_fits([trial(1), trial(4)], Resources(nodes_per_trial=1))


def test_versions_are_compared_where_this_process_has_them() -> None:
    here = {"python": "3.11.7", "torch": "2.13.0", "peft": "0.18"}
    assert differences(here, here | {"deepspeed": "0.19"}) == []
    assert differences(here, {"python": "3.11.7", "torch": "2.12.0"}) == [
        "torch 2.12.0 instead of 2.13.0",
        "peft missing instead of 0.18",
    ]
