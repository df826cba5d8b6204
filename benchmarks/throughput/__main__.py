"""Tokens per second of our trial next to a bare loop, transformers' Trainer and TRL's SFTTrainer.

    python -m benchmarks.throughput [--data CHATS.jsonl] [--shape cpu-5m] [--rounds 3] [--only NAME,...] [--json]

Every contender trains the same random-init model on the same tokens in a process of its own; the rounds go through all
of them in turn, and ratios are taken within a round, so that whatever else the machine does falls on all alike.
Tokens are real ones: padding does not count.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.throughput.setup import Setup, Timing

REFERENCE: Final = "sweeper, single"
SAME_LOSS: Final = 1e-3
"""Largest relative difference of losses between ours and the bare loop: they do the same work or the table is void."""


def contenders() -> dict[str, Callable[[Setup], Timing]]:
    """Return how each contender is run; only the chosen one's packages are imported."""

    def ours(**train: object) -> Callable[[Setup], Timing]:
        def run(setup: Setup) -> Timing:
            from benchmarks.throughput import ours

            return ours.run(setup, **train)

        return run

    def bare(setup: Setup) -> Timing:
        from benchmarks.throughput import bare

        return bare.run(setup)

    def peer(name: str) -> Callable[[Setup], Timing]:
        def run(setup: Setup) -> Timing:
            from benchmarks.throughput import peers

            timed: Timing = getattr(peers, name)(setup)
            return timed

        return run

    return {
        REFERENCE: ours(),
        "sweeper, fsdp": ours(engine="fsdp"),
        "bare loop, same rows": bare,
        "transformers Trainer": peer("padded"),
        "TRL, padded": peer("trl_padded"),
        "TRL, padding-free": peer("trl_padding_free"),
        "TRL, packing": peer("trl_packing"),
        "TRL, packing, short rows": peer("trl_packing_short"),
    }


def main() -> int:
    arguments = _parse()
    if arguments.contender:
        setup = Setup(**json.loads(arguments.setup))
        print(json.dumps(dataclasses.asdict(contenders()[arguments.contender](setup))))
        return 0
    from benchmarks.throughput.world import SHAPES, make_world

    names = [n for n in contenders() if not arguments.only or any(p in n for p in arguments.only.split(","))]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "world"
        make_world(folder, SHAPES[arguments.shape], arguments.data, arguments.seed)
        setup = Setup(
            folder=str(folder),
            batch_size=arguments.batch_size,
            max_tokens_per_rank=arguments.max_tokens,
            warmup_steps=arguments.warmup_steps,
            steps=arguments.steps,
            precision=arguments.precision,
            device=arguments.device,
            seed=arguments.seed,
        )
        rounds = [_round(names, setup, turn, arguments.threads) for turn in range(arguments.rounds)]
    _check_losses(rounds)
    _print(names, rounds, as_json=arguments.json)
    return 0


def _round(names: list[str], setup: Setup, turn: int, threads: int) -> dict[str, Timing]:
    first = turn % len(names)
    return {name: _timed(name, setup, threads) for name in (*names[first:], *names[:first])}


def _timed(name: str, setup: Setup, threads: int) -> Timing:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.throughput", "--contender", name]
    command += ["--setup", json.dumps(dataclasses.asdict(setup))]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    timing = Timing(**json.loads(done.stdout.strip().splitlines()[-1]))
    speed, by_cpu = timing.tokens / timing.seconds, timing.tokens / timing.cpu_seconds
    print(f"{name}: {speed:,.0f} tokens/s, {by_cpu:,.0f} by processor time", file=sys.stderr, flush=True)
    return timing


def _check_losses(rounds: list[dict[str, Timing]]) -> None:
    for timings in rounds:
        if REFERENCE in timings and "bare loop, same rows" in timings:
            pairs = zip(timings[REFERENCE].losses, timings["bare loop, same rows"].losses, strict=True)
            worst = max(abs(a / b - 1) for a, b in pairs)
            if worst > SAME_LOSS:
                raise SystemExit(f"ours and the bare loop differ in loss by {worst:.2g}: not the same work")


def _print(names: list[str], rounds: list[dict[str, Timing]], *, as_json: bool) -> None:
    wall = {name: [t[name].tokens / t[name].seconds for t in rounds] for name in names}
    processor = {name: [t[name].tokens / t[name].cpu_seconds for t in rounds] for name in names}
    if as_json:
        print(json.dumps({"tokens_per_s": wall, "tokens_per_cpu_s": processor}))
        return
    print(f"| contender | tokens/s, median of {len(rounds)} | {names[0]} over it | by processor time | peak GB |")
    print("|---|---|---|---|---|")
    for name in names:
        ratios = " | ".join(_ratio(speeds[names[0]], speeds[name]) for speeds in (wall, processor))
        peak = max(t[name].peak_memory_bytes for t in rounds) / 1e9
        print(f"| {name} | {statistics.median(wall[name]):,.0f} | {ratios} | {f'{peak:.1f}' if peak else '-'} |")
    utilisations = [t[REFERENCE].mfu for t in rounds if REFERENCE in t]
    if known := [each for each in utilisations if each is not None]:
        print(f"\nModel FLOPs utilisation of {REFERENCE}: {statistics.median(known):.1%}")


def _ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = [o / t for o, t in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="chat JSONL; without it synthetic chats of like lengths")
    parser.add_argument("--shape", default="cpu-5m")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=2048, help="token slots of a micro-batch")
    parser.add_argument("--warmup-steps", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads of a contender")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="contenders whose names hold one of these words, commas between")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--setup", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
