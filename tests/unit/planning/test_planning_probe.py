"""A plan that is corrected by a few real steps: which cells run, what is learned, and when it is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from planning_cases import FACTS, loaded, plans

from sweeper.core.config import TrialConfig
from sweeper.core.errors import InputError
from sweeper.core.memory import estimate
from sweeper.core.micro_batch import Lengths, batches
from sweeper.core.roofline import Speed, flops_per_sample
from sweeper.core.shape import shape_of
from sweeper.planning.cells import CellPlan, CellPlanner
from sweeper.planning.hardware import Hardware, hardware
from sweeper.planning.probe import StepCosts, correct, extreme_cells, refuse_elsewhere, shortened, try_largest

GPUS = Callable[[str, int], None]


@pytest.fixture
def gpus_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GPUS:
    """Return what puts a driver's query tool on the path that tells of so many GPUs of this name."""

    def put(name: str, amount: int) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text("#!/bin/sh\n" + f"echo '{name}, 81559'\n" * amount)
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


def machine(where: Hardware, *, memory: float = 1.0, share: float = 0.25, per_step_s: float = 0.0, most: int = 10**9):
    """Return what runs steps as a device would that reaches this share of its peak and needs this much memory."""
    ran: list[TrialConfig] = []
    shape, lengths = shape_of(FACTS["model"]["config"]), Lengths.of(FACTS)
    assert shape is not None
    assert lengths is not None

    def run(config: TrialConfig) -> StepCosts:
        ran.append(config)
        train = config.train
        limit = min(train.max_tokens_per_rank, most)
        each = batches(lengths, batch_size=train.batch_size, ranks=train.ranks, max_tokens=limit, steps=2)
        flops = 2 * train.batch_size * flops_per_sample(shape, lengths, train)
        peak = where.device.flops_bf16 * train.ranks
        found = estimate(shape, train, each.largest, "cuda")
        return StepCosts(
            steps=2,
            seconds=4 / 3 * flops / (peak * share) + 2 * (update_s(where, config) + per_step_s),
            flops=flops,
            peak_memory_bytes=round(memory * (found.device - found.margin)),
            load=each.largest,
            max_tokens_per_rank=limit,
        )

    return run, ran


def update_s(where: Hardware, config: TrialConfig) -> float:
    """Return what AdamW's reading and writing takes of every step."""
    shape = shape_of(FACTS["model"]["config"])
    assert shape is not None
    return 28 * shape.parameters / config.train.ranks / where.device.bandwidth


def planner(where: Hardware, speed: Speed, memory: float = 1.0) -> CellPlanner:
    return CellPlanner(where, speed, gpus_per_rank=1.0, memory_factor=memory)


def cell(found: list[CellPlan], batch_size: int) -> CellPlan:
    return next(each for each in found if each.planned.cell.config.train.batch_size == batch_size)


def test_the_cells_that_are_run_are_the_largest_in_memory_and_those_of_the_extreme_batches(tmp_path: Path) -> None:
    found = plans(loaded(tmp_path)[1])
    chosen = [each.planned.cell.config.train.batch_size for each in extreme_cells(found, 8)]
    assert sorted(chosen) == [64, 1024], "256 is in between, and no config is run twice"


def test_cells_that_are_infeasible_or_need_more_devices_than_there_are_are_not_run(tmp_path: Path) -> None:
    found = plans(loaded(tmp_path)[1])
    with pytest.raises(InputError, match=r"no cell can be run here.*4 devices"):
        extreme_cells(found, 4)
    with pytest.raises(InputError, match="no cell can be run here"):
        extreme_cells([replace(each, infeasible="why not") for each in found], 8)


def test_a_batch_of_many_micro_batches_is_cut_to_three_and_a_small_one_is_left_whole(tmp_path: Path) -> None:
    found = plans(loaded(tmp_path)[1])
    large, small = cell(found, 1024), cell(found, 64)
    assert large.batches is not None
    assert large.batches.micro_batches == 4
    assert shortened(large).train.batch_size == 1024 * 3 // 4
    assert shortened(small).train.batch_size == 64
    assert shortened(large).train.max_tokens_per_rank == large.planned.cell.config.train.max_tokens_per_rank


@pytest.mark.parametrize("per_step_s", [0.0, 0.3])
def test_planned_time_is_that_of_the_probed_machine_for_the_cells_between_too(
    tmp_path: Path, gpus_here: GPUS, per_step_s: float
) -> None:
    gpus_here("NVIDIA H100 80GB HBM3", 8)
    where, planned = hardware(None, None, None), loaded(tmp_path)[1]
    run, _ = machine(where, share=0.25, per_step_s=per_step_s)
    assumed = Speed(compute=2.0)
    found = correct(plans(planned, where), planner(where, assumed), where, assumed, run)
    assert (found.speed.trials, found.speed.probes) == (0, 2)
    between = cell([planner(where, found.speed).plan(each, FACTS) for each in planned], 256)
    steps = between.planned.derived.total_steps
    assert between.work is not None
    truth = 4 / 3 * between.work.flops / (8 * where.device.flops_bf16 * 0.25)
    truth += steps * (update_s(where, between.planned.cell.config) + per_step_s)
    # This machine's ranks talk for nothing; the plan takes the smallest batch to be bound by that.
    assert between.train_s == pytest.approx(truth, rel=0.15)


def test_measured_memory_corrects_every_cell_on_a_gpu(tmp_path: Path, gpus_here: GPUS) -> None:
    gpus_here("NVIDIA H100 80GB HBM3", 8)
    where, planned = hardware(None, None, None), loaded(tmp_path)[1]
    before = plans(planned, where)
    run, _ = machine(where, memory=1.2)
    found = correct(before, planner(where, Speed(compute=2.0)), where, Speed(compute=2.0), run)
    assert found.memory == pytest.approx(1.2)
    assert "GiB allocated where" in found.notes[0]
    for old, new in zip(before, (planner(where, found.speed, 1.2).plan(p, FACTS) for p in planned), strict=True):
        assert old.memory is not None
        assert new.memory is not None
        assert new.memory.activations == pytest.approx(1.2 * old.memory.activations)
        assert new.memory.margin == old.memory.margin


def test_on_a_cpu_memory_is_left_as_it_was_calculated(tmp_path: Path, gpus_here: GPUS) -> None:
    gpus_here("", 0)
    where = hardware("cpu", None, 8)
    run, _ = machine(where, memory=50.0)
    found = correct(
        plans(loaded(tmp_path)[1], where), planner(where, Speed(compute=2.0)), where, Speed(compute=2.0), run
    )
    assert found.memory == 1.0
    assert "GiB" not in found.notes[0]


def test_the_largest_micro_batch_that_should_fit_is_run_and_it_is_told_whether_it_did(
    tmp_path: Path, gpus_here: GPUS
) -> None:
    gpus_here("NVIDIA H100 80GB HBM3", 8)
    where = hardware(None, None, None)
    found = plans(loaded(tmp_path)[1], where)
    run, ran = machine(where)
    assert "was run with b1024-lr1e-5 and fits" in try_largest(found, run)
    choice = cell(found, 1024).choice
    assert choice is not None
    assert ran[-1].train.max_tokens_per_rank == choice.max_tokens_per_rank
    small, _ = machine(where, most=choice.max_tokens_per_rank // 2)
    assert f"does not fit b1024-lr1e-5; {choice.max_tokens_per_rank // 2} does" in try_largest(found, small)


@pytest.mark.parametrize(
    ("driver", "named", "refused"),
    [
        (None, None, None),
        (None, "cpu", None),
        (None, "h100", "no GPU to probe.*h100"),
        ("NVIDIA H100 80GB HBM3", None, None),
        ("NVIDIA H100 80GB HBM3", "h100", None),
        ("NVIDIA H100 80GB HBM3", "a100", "1 x h100.*a100"),
        ("Some new thing", "h100", "Some new thing"),
    ],
)
def test_hardware_that_is_not_here_is_refused(
    gpus_here: GPUS, driver: str | None, named: str | None, refused: str | None
) -> None:
    gpus_here(driver or "", 1 if driver else 0)
    where = hardware(named, None, None)
    if refused is None:
        refuse_elsewhere(named, where)
        return
    with pytest.raises(InputError, match=refused):
        refuse_elsewhere(named, where)


def test_a_number_of_gpus_without_a_gpu_here_is_refused(gpus_here: GPUS) -> None:
    gpus_here("", 0)
    with pytest.raises(InputError, match="no GPU to probe"):
        refuse_elsewhere(None, hardware(None, None, 8))
