"""The versions on a cluster's nodes: another one there gives other numbers, or fails in the middle of the night."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

from sweeper.core.errors import InputError

MUST_AGREE: Final = ("sweeper", "torch", "transformers", "datasets", "numpy", "peft", "deepspeed")
"""Whatever decides a trial's numbers. Ray sees to its own version."""
ANSWER_LIMIT_S: Final = 180.0


def installed() -> dict[str, str]:
    """Return this process's versions; a library that is missing is left out."""
    found = {"python": platform.python_version()}
    for name in MUST_AGREE:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def differences(here: dict[str, str], there: dict[str, str]) -> list[str]:
    """Return one text per library that a node lacks or has in another version; what it has besides is no matter."""
    return [
        f"{name} {there.get(name, 'missing')} instead of {version}"
        for name, version in here.items()
        if there.get(name) != version
    ]


def refuse_other_versions() -> None:
    """Ask every node of the cluster for its versions.

    Raises:
        InputError: a node has others than this process, or does not answer.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # By value: where sweeper is missing, a function of it could not even be found.
    ask = ray.remote(num_cpus=0)(standing_alone())
    alive = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    calls = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(MUST_AGREE): address
        for node, address in alive.items()
    }
    here = installed()
    for call, address in calls.items():
        try:
            wrong = differences(here, ray.get(call, timeout=ANSWER_LIMIT_S))
        except RayError as error:
            told = str(error).strip().splitlines()[-1]
            raise InputError(f"node {address} does not answer: {told}", where="--address") from error
        if wrong:
            mend = "install the same on all nodes, or give an image"
            raise InputError(f"node {address} has {', '.join(wrong)}", where="--address", mend=mend)


def standing_alone() -> object:
    def versions(names: tuple[str, ...]) -> dict[str, str]:
        import platform
        from importlib import metadata

        found = {"python": platform.python_version()}
        for name in names:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return found

    versions.__module__ = "__main__"
    return versions
