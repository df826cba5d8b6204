"""Memory of the ranks of one node and the time to begin a trial: ``python -m benchmarks.base_weights [--only NAMES]``.

For each checkpoint (88 million random weights stored in bf16 or fp32, or in bf16 in torch's own format) and engine,
four ranks on one node begin a trial, and then a second one with another learning rate; engine ``single`` is four gangs
of one rank. Memory is the proportional set size that the kernel counts (``Pss`` of ``smaps_rollup``: a page that k
processes have mapped counts as 1/k for each of them), summed over the ranks, less what it was before the first trial.
The peak is the highest of samples taken every 50 ms or less often.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

from benchmarks.throughput.setup import Setup
from benchmarks.throughput.world import Shape, make_world

SHAPE: Final = Shape(hidden=768, layers=12, heads=12, kv_heads=4, intermediate=2048, vocabulary=8192, tied=False)
RANKS: Final = 4
CHECKPOINTS: Final = ("bf16", "fp32", "bin")
ENGINES: Final = ("single", "fsdp", "deepspeed")
EVERY_S: Final = 0.05
MB: Final = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One checkpoint on one engine."""

    checkpoint: str
    engine: str
    folder: Path

    @property
    def gang_size(self) -> int:
        return 1 if self.engine == "single" else RANKS


def run_rank(case: Case, rank: int, port: int, orders: Any, ready: Any, answers: Any) -> None:
    """Begin two trials, each when told to, and answer with the seconds that takes."""
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "LOCAL_RANK": "0"}
    import torch
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401  (what every rank imports is not what is compared)

    from trials.session import TrialSession

    torch.set_num_threads(1)
    setup = Setup(
        folder=str(case.folder),
        batch_size=8,
        max_tokens_per_rank=2048,
        warmup_steps=0,
        steps=1,
        precision="bf16",
        device="cpu",
        seed=0,
    )
    plain = setup.config(engine=case.engine, ranks=case.gang_size, zero_stage=3)
    session = TrialSession(rank=rank % case.gang_size, world_size=case.gang_size, device="cpu")
    session.connect(f"tcp://127.0.0.1:{port}")
    for number in range(2):
        ready.put(None)
        orders.get()
        began = time.perf_counter()
        session.start(replace(plain, train=replace(plain.train, learning_rate=1e-4 * (1 + number))))
        answers.put(time.perf_counter() - began)
    orders.get()
    session.close()


def pss(pids: list[int]) -> dict[str, float]:
    """Return the proportional set size of processes together by kind, in bytes."""
    found: dict[str, float] = {}
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        for kind, kib in re.findall(r"^(Pss\w*):\s+(\d+) kB", text, re.MULTILINE):
            found[kind] = found.get(kind, 0.0) + 1024 * float(kib)
    return found


def measure(case: Case) -> str:
    """Return one line of the table."""
    context = multiprocessing.get_context("spawn")
    answers, ready, orders = context.Queue(), context.Queue(), [context.Queue() for _ in range(RANKS)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        context.Process(target=run_rank, args=(case, rank, port, orders[rank], ready, answers)) for rank in range(RANKS)
    ]
    for process in ranks:
        process.start()
    pids = [process.pid or 0 for process in ranks]

    def both() -> tuple[float, float]:
        """Let every rank begin a trial; return the longest time and the highest memory meanwhile."""
        for order in orders:
            order.put("begin")
        seconds: list[float] = []
        highest = 0.0
        while len(seconds) < RANKS:
            if any(process.exitcode for process in ranks):
                raise RuntimeError(f"{case}: a rank failed")
            highest = max(highest, pss(pids)["Pss"])
            time.sleep(EVERY_S)
            while not answers.empty():
                seconds.append(answers.get())
        return max(seconds), highest

    def waiting() -> dict[str, float]:
        for _ in ranks:
            ready.get(timeout=300)
        return pss(pids)

    before = waiting()
    first_s, peak = both()
    waiting()
    second_s, second_peak = both()
    held = {kind: value - before[kind] for kind, value in pss(pids).items()}
    for order in orders:
        order.put("end")
    for process in ranks:
        process.join()
    own, shared = held["Pss_Anon"], held["Pss_File"] + held["Pss_Shmem"]
    return (
        f"{case.checkpoint:10s}{case.engine:11s}{(peak - before['Pss']) / MB:9,.0f}"
        f"{(second_peak - before['Pss']) / MB:9,.0f}{held['Pss'] / MB:9,.0f}{own / MB:9,.0f}{shared / MB:9,.0f}"
        f"{first_s:9.1f}{second_s:9.1f}"
    )


def make_folders(root: Path) -> dict[str, Path]:
    """Write the same model in three formats; return their folders by name."""
    import torch
    from transformers import AutoModelForCausalLM

    folders = {name: root / name for name in CHECKPOINTS}
    make_world(folders["fp32"], SHAPE, None, seed=0, num_synthetic=64)
    shutil.copytree(folders["fp32"], folders["bf16"])
    model = AutoModelForCausalLM.from_pretrained(folders["fp32"], dtype=torch.bfloat16)
    model.save_pretrained(folders["bf16"])
    shutil.copytree(folders["bf16"], folders["bin"])
    (folders["bin"] / "model.safetensors").unlink()
    torch.save(model.state_dict(), folders["bin"] / "pytorch_model.bin")
    return folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of checkpoints and engines, separated by blanks")
    wanted = set(parser.parse_args().only.split())
    chosen = [one for one in product(CHECKPOINTS, ENGINES) if not wanted or set(one) <= wanted]
    with tempfile.TemporaryDirectory(prefix="base-weights-") as folder:
        os.environ["SWEEPER_CACHE"] = str(Path(folder) / "cache")
        folders = make_folders(Path(folder))
        print(f"{RANKS} ranks, MB of all together; seconds of the slowest rank")
        print(f"{'stored':10s}{'engine':11s}{'peak':>9s}{'2nd peak':>9s}{'held':>9s}{'own':>9s}{'shared':>9s}", end="")
        print(f"{'start':>9s}{'2nd':>9s}")
        for checkpoint, engine in chosen:
            print(measure(Case(checkpoint=checkpoint, engine=engine, folder=folders[checkpoint])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
