"""What each rank of a gang does in the tests of trials: train, decode, save, run out of memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from signal_cases import one_step

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode


def train_each(
    rank: int, ranks: int, init_method: str, plain: dict[str, Any], cases: list[dict[str, Any]], leave: bool = True
) -> list[list[tuple[float, float]]]:
    """Train the same trial once per case and return loss and gradient norm of every step of each.

    See ``measure_each`` for what a case names.
    """
    return [
        [(point["loss"], point["grad_norm"]) for one in measurements for point in one["series"]]
        for measurements in measure_each(rank, ranks, init_method, plain, cases, leave)
    ]


def measure_each(
    rank: int, ranks: int, init_method: str, plain: dict[str, Any], cases: list[dict[str, Any]], leave: bool = True
) -> list[list[dict[str, Any]]]:
    """Train the same trial once per case and return the measurements of each.

    A case names ``engine``, ``layout``, ``max_tokens_per_rank``, ``wrap_blocks`` for FSDP's unit, ``memory`` as
    ``limit_memory`` takes it, and other settings of the train section under ``train``.
    """
    import torch

    from trials.corpus import load_data
    from trials.engines.fsdp import FsdpEngine
    from trials.engines.single import SingleEngine
    from trials.gang import Gang, connect
    from trials.loop import Trial
    from trials.lora import add_adapters
    from trials.model import load_model

    gang = Gang(rank=rank, world_size=ranks, device=torch.device("cpu"))
    if not torch.distributed.is_initialized():
        connect(gang, init_method)
    made: dict[Any, Any] = {}
    found = []
    for case in cases:
        settings = {"ranks": ranks, "engine": case["engine"], "max_tokens_per_rank": case["max_tokens_per_rank"]}
        settings |= {"zero_stage": case.get("zero_stage", 2)}
        settings |= {"precision": case.get("precision", "fp32")} | case.get("train", {})
        one = decode(TrialConfig, plain | {"train": plain["train"] | settings})
        train, _ = load_data(one)
        kind = (case["engine"], case.get("wrap_blocks", True), settings["precision"])
        kind += (str(case.get("memory")), str(case.get("train")))
        if kind not in made:
            model = load_model(Path(one.model.path), one.model)
            if one.train.lora:
                add_adapters(model, one.train.lora)
            if limit := case.get("memory"):
                limit_memory(model, gang.rank, **limit)
            if case["engine"] == "single":
                made[kind] = SingleEngine(
                    model, gang, one.train.precision, checkpoints_activations=one.train.activation_checkpointing
                )
            elif case["engine"] == "deepspeed":
                from trials.engines.deepspeed import DeepspeedEngine

                made[kind] = DeepspeedEngine(model, gang, one.train.precision)
            else:
                made[kind] = FsdpEngine(
                    model,
                    gang,
                    one.train.precision,
                    small_block_parameters=0 if kind[1] else 10**12,
                    checkpoints_activations=one.train.activation_checkpointing,
                    offloads=one.train.cpu_offload,
                    shard_ranks=one.train.shard_ranks,
                )
        made[kind].reset(one.train)
        trial = Trial(one, None, train=train, evaluation=None, engine=made[kind], gang=gang, layout=case.get("layout"))
        found.append([])
        while not trial.is_over:
            found[-1].append(trial.advance().to_json())
    if leave:
        torch.distributed.destroy_process_group()
    return found


def shard_sizes(rank: int, ranks: int, init_method: str, plain: dict[str, Any], shard_ranks: int) -> tuple[int, int]:
    """Return how many weights rank 0 holds, and how many there are."""
    import torch

    from trials.engines.fsdp import FsdpEngine
    from trials.gang import Gang, connect
    from trials.model import load_model

    gang = Gang(rank=rank, world_size=ranks, device=torch.device("cpu"))
    connect(gang, init_method)
    one = decode(TrialConfig, plain)
    model = load_model(Path(one.model.path), one.model)
    engine = FsdpEngine(model, gang, "fp32", small_block_parameters=0, shard_ranks=shard_ranks)
    whole = engine.full_weights()
    torch.distributed.destroy_process_group()
    return sum(shard.numel() for shard in engine._local.values()), sum(value.numel() for value in whole.values())


def limit_memory(model: Any, own_rank: int, *, slots: int, rank: int, where: str, after: int = 0) -> None:
    """Make an allocator: the last block's forward or the first one's backward fails above so many slots, on one rank.

    ``after`` lets so many larger micro-batches pass before.
    """
    import torch

    left = [after]

    def check(hidden: Any) -> None:
        if own_rank == rank and torch.is_grad_enabled() and hidden.shape[0] * hidden.shape[1] > slots:
            left[0] -= 1
            if left[0] < 0:
                raise torch.OutOfMemoryError("tried to allocate 1.00 TiB")

    def forward(_: Any, arguments: Any) -> None:
        check(arguments[0])

    def backward(_: Any, arguments: Any, output: Any) -> None:
        if output.requires_grad:
            output.register_hook(fail)

    def fail(gradient: Any) -> None:
        with torch.enable_grad():
            check(gradient)

    if where == "forward":
        model.model.layers[-1].register_forward_pre_hook(forward)
    else:
        model.model.layers[0].register_forward_hook(backward)


def run_sessions(
    rank: int, ranks: int, init_method: str, plains: list[dict[str, Any]], weights: str | None = None
) -> list[tuple[float, list[dict[str, Any]]]]:
    """Run trials one after another on one session; return each one's start in seconds and its measurements."""
    import torch.distributed as dist

    from trials.session import TrialSession

    session = TrialSession(rank=rank, world_size=ranks, device="cpu")
    if not dist.is_initialized():
        session.connect(init_method)
    results = []
    for plain in plains:
        began = time.perf_counter()
        session.start(decode(TrialConfig, plain))
        start_s = time.perf_counter() - began
        measurements = []
        while not session.is_over:
            measurement = session.advance()
            assert (measurement is None) == (rank > 0)
            if measurement is not None:
                measurements.append(measurement.to_json())
        results.append((start_s, measurements))
    if weights:
        session.save_weights(Path(weights))
    session.close()
    return results


ENDS = frozenset(range(10, 60, 5))
"""Tokens that end an answer of the random model."""


def decode_each(
    rank: int, ranks: int, init_method: str, folder: str, prompts: list[list[int]], precisions: list[Any]
) -> list[list[list[int]]]:
    """Decode the prompts once per precision on FSDP with every block its own unit; return the answers of all ranks."""
    import numpy as np
    import torch
    import torch.distributed as dist

    from sweeper.core.config import ModelConfig
    from trials.engines.fsdp import FsdpEngine
    from trials.gang import Gang, connect
    from trials.generate import greedy
    from trials.model import load_model

    gang = Gang(rank=rank, world_size=ranks, device=torch.device("cpu"))
    connect(gang, init_method)
    results = []
    for precision in precisions:
        model = load_model(Path(folder), ModelConfig(path=folder))
        engine = FsdpEngine(model, gang, precision, small_block_parameters=0)
        rows = [np.array(prompt) for prompt in prompts]
        mine = greedy(engine, rows, max_new_tokens=9, ends=ENDS, max_tokens=60, gang=gang)
        answers = {number: answer for share in gang.gather(mine) for number, answer in share.items()}
        results.append([answers[number] for number in range(len(prompts))])
    dist.destroy_process_group()
    return results


def continue_trial(
    rank: int, ranks: int, init_method: str, plain: dict[str, Any], source: str, target: str | None
) -> list[list[float]]:
    """Train to the end from the checkpoint ``source``, or write ``target`` after the first milestone and then go on.

    Returns loss and gradient norm of every step taken.
    """
    from trials.session import TrialSession

    session = TrialSession(rank=rank, world_size=ranks, device="cpu")
    session.connect(init_method)
    points: list[list[float]] = []
    try:
        session.start(decode(TrialConfig, plain))
        if target is None:
            session.load(Path(source))
        while not session.is_over:
            measurement = session.advance()
            points += [[point.loss, point.grad_norm] for point in measurement.series] if measurement else []
            if target is not None:
                session.save(Path(target))
                target = None
    finally:
        session.close()
    return points


def save_and_return(
    rank: int, ranks: int, plain: dict[str, Any], folder: str
) -> tuple[list[list[float]], list[list[float]]]:
    """Train a trial with a checkpoint after the first milestone, then again from there on the same session."""
    from trials.session import TrialSession

    session = TrialSession(rank=rank, world_size=ranks, device="cpu")
    curves: list[list[list[float]]] = []
    for is_second in (False, True):
        session.start(decode(TrialConfig, plain))
        if is_second:
            session.load(Path(folder))
        curves.append([])
        while not session.is_over:
            measurement = session.advance()
            curves[-1] += [[point.loss, point.grad_norm] for point in measurement.series] if measurement else []
            if not is_second and not session.is_over:
                session.save(Path(folder))
    return curves[0], curves[1]


def try_deepspeed(
    rank: int,
    ranks: int,
    init_method: str,
    cases: tuple[dict[str, Any], list[dict[str, Any]]],
    resumed: tuple[dict[str, Any], str],
    followed: tuple[list[dict[str, Any]], str],
    stepped: tuple[dict[str, Any], list[dict[str, Any]]],
) -> Any:
    """Do all that is tested of DeepSpeed in one life of the processes: it cannot be set up twice in them."""
    return (
        train_each(rank, ranks, init_method, *cases, leave=False),
        save_and_return(rank, ranks, *resumed),
        one_step(rank, ranks, init_method, *stepped, leave=False),
        run_sessions(rank, ranks, init_method, *followed),
    )


def state_sizes(
    rank: int, ranks: int, init_method: str, plains: list[dict[str, Any]], folder: str
) -> list[tuple[int, int]]:
    """Return what each trial's state takes at most, as the session says, and what it took."""
    from trials.session import TrialSession

    session = TrialSession(rank=rank, world_size=ranks, device="cpu")
    session.connect(init_method)
    sizes = []
    for place, plain in enumerate(plains):
        root = Path(folder) / str(place)
        session.start(decode(TrialConfig, plain))
        session.advance()
        session.save_milestone(root, keep=1)
        session.finish_saving()
        written = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        sizes.append((session.state_bytes, written))
    session.close()
    return sizes
