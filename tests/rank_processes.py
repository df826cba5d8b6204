"""Gangs of real processes that do one job after another."""

from __future__ import annotations

import socket
import traceback
from typing import Any

import pytest


class Ranks:
    """Processes that do one job after another: starting them costs more than most jobs. Started when first needed."""

    def __init__(self) -> None:
        import torch.multiprocessing as processes

        self._context = processes.get_context("spawn")
        self._answers = self._context.SimpleQueue()
        self._started: list[tuple[Any, Any]] = []

    def do(self, ranks: int, job: Any, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.setenv("HF_HUB_OFFLINE", "1")
            while len(self._started) < ranks:
                orders = self._context.SimpleQueue()
                process = self._context.Process(target=_serve, args=(orders, self._answers), daemon=True)
                process.start()
                self._started.append((process, orders))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            init_method = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        for rank, (_, orders) in enumerate(self._started[:ranks]):
            orders.put((job, rank, ranks, init_method, arguments))
        failure, result = self._answers.get()
        if failure:
            self.kill()
        assert not failure, failure
        return result

    def kill(self) -> None:
        for process, _ in self._started:
            process.kill()
            process.join()
        self._answers = self._context.SimpleQueue()
        self._started = []


_ranks: list[Ranks] = []


def in_gang(ranks: int, job: Any, *arguments: Any) -> Any:
    """Call ``job(rank, ranks, init_method, *arguments)`` in that many processes and return rank 0's result.

    The job must be a function of an importable module. A failure in any rank fails the calling test with its trace.
    The processes stay for the next call and die with this one.
    """
    if not _ranks:
        _ranks.append(Ranks())
    return _ranks[0].do(ranks, job, *arguments)


def new_gang() -> None:
    """Let the next gang start from new processes: DeepSpeed cannot be set up twice in the same ones."""
    while _ranks:
        _ranks.pop().kill()


def _serve(orders: Any, answers: Any) -> None:
    while True:
        job, rank, ranks, init_method, arguments = orders.get()
        try:
            result = job(rank, ranks, init_method, *arguments)
        except BaseException:
            answers.put((f"rank {rank}:\n{traceback.format_exc()}", None))
            raise
        if rank == 0:
            answers.put((None, result))
