"""The command line with a watch on it: how long each decision takes, and how the driver's memory grows.

    python -m benchmarks.timed_driver OUT.jsonl run SPACE.yaml ...

Writes one JSON object a line: per call of the scheduler its seconds on the clock and on its own thread's processor,
per ended trial the driver's resident memory, and for Tune's whole run its seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from benchmarks.decide import resident_mb


def timed(call: Callable[..., Any], kind: str, out: TextIO) -> Callable[..., Any]:
    """Return the call with its seconds written to ``out``."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            return call(*args, **kwargs)
        finally:
            seconds, cpu_s = time.perf_counter() - began, time.thread_time() - cpu_began
            line = {"kind": kind, "seconds": seconds, "cpu_s": cpu_s, "rss_mb": resident_mb()}
            out.write(json.dumps(line) + "\n")

    return watched


def watch(out: TextIO) -> None:
    from ray import tune

    from sweeper.adapters.ray.scheduler import JudgeScheduler
    from sweeper.proposer import Proposer

    watched: list[tuple[Any, str, str]] = [
        (JudgeScheduler, "on_trial_result", "result"),
        (JudgeScheduler, "on_trial_complete", "end"),
        (Proposer, "__call__", "propose"),
        (tune.Tuner, "fit", "fit"),
    ]
    for owner, name, kind in watched:
        setattr(owner, name, timed(getattr(owner, name), kind, out))


def main() -> int:
    from sweeper import cli
    from sweeper.adapters.ray import cluster

    with Path(sys.argv[1]).open("w", buffering=1) as out:
        connect = cluster._connect

        def connect_and_watch(*args: Any) -> None:
            connect(*args)
            watch(out)  # not before: Ray reads its token when it is imported

        cluster._connect = connect_and_watch
        return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
