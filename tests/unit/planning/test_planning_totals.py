"""The whole sweep: hours, money, what pruning may save, and where the numbers come from."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from planning_cases import SEVEN, loaded, plans

from sweeper.adapters.yaml_space import load_space
from sweeper.console.plan_tables import print_cell, print_plan
from sweeper.core.errors import InputError
from sweeper.core.roofline import Speed, Work, fit
from sweeper.core.search import SearchConfig
from sweeper.core.shape import shape_of
from sweeper.planning.hardware import hardware
from sweeper.planning.make import make_plan
from sweeper.planning.saving import saving
from sweeper.planning.totals import makespan, sweep_plan

H100 = hardware("h100", None, 16)


def test_a_sweep_costs_the_sum_of_the_cells_that_can_run(tmp_path: Path) -> None:
    space, planned = loaded(tmp_path, "grid.batch_size=[64, 20000]")
    cells = plans(planned)
    total = sweep_plan(space, cells, H100, price=2.5)
    assert (total.cells, total.runnable, total.at_once) == (4, 2, 2)
    assert total.gpu_hours == sum(cell.gpu_hours for cell in cells if cell.infeasible is None)
    assert total.hours == pytest.approx(max(cell.seconds for cell in cells if cell.infeasible is None) / 3600)
    assert total.cheapest <= total.dearest <= total.gpu_hours


def test_trials_hold_base_weights_once_a_node_and_what_each_rank_offloads(tmp_path: Path) -> None:
    def host(*settings: str) -> float:
        space, planned = loaded(tmp_path, "grid.batch_size=[64]", *settings)
        return sweep_plan(space, plans(planned), H100, price=None).host_bytes

    shape = shape_of(SEVEN)
    assert shape is not None
    weights = 4 * shape.parameters
    assert host() == 2 * weights, "two trials of 8 ranks at a time"
    assert host("resources.nodes_per_trial=2") == 2 * 2 * weights
    assert host("train.cpu_offload=true") > 2 * (weights + 12 * weights / 4)


def test_nothing_ends_before_the_longest_trial() -> None:
    assert makespan([1, 1, 1, 9], 2) == 10
    assert makespan([3, 3, 3], 8) == 3
    assert makespan([], 4) == 0


@pytest.mark.parametrize(
    ("pruner", "workers", "low", "high"),
    [
        (("nop",), 4, 0, 0),
        ((), 4, 0, 0),
        (("calibrated",), 1, 0.10, 0.45),
        (("calibrated",), 12, 0.07, 0.29),
        (({"calibrated": {"risk": 0.2}},), 4, 0.09 * 1.42, 0.44 * 1.42),
        (("early_dynamics", "calibrated"), 1, 0.10, 0.45),
        (({"guards": False}, "early_dynamics"), 1, 0, 0.31),
    ],
)
def test_the_range_is_that_of_like_sweeps(pruner: tuple[object, ...], workers: int, low: float, high: float) -> None:
    found = saving(pruner, cells=60, calibration=4, workers=workers, hold_back=0)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_trials_that_run_to_their_end_save_nothing() -> None:
    found = saving(("calibrated",), cells=5, calibration=4, workers=1, hold_back=0)
    assert found is not None
    assert found.high <= 0.2 + 1e-9
    held = saving(("calibrated",), cells=60, calibration=4, workers=1, hold_back=0.5)
    assert held is not None
    assert held.high == pytest.approx(0.225)


def test_local_search_leaves_out_more_than_its_pruner_ends() -> None:
    local = SearchConfig(method="local")
    found = saving(("calibrated",), cells=60, calibration=4, workers=1, hold_back=0, search=local)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.37, 0.78))
    assert "local search" in found.origin


def test_a_budget_of_cells_is_the_least_that_local_search_leaves_out() -> None:
    local = SearchConfig(method="local", budget=6)
    found = saving(("nop",), cells=60, calibration=4, workers=1, hold_back=0, search=local)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.9, 0.9))


def test_the_plan_of_a_local_search_says_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "sweep: own\ntrial: {train_samples: 100, command: 'true'}\n"
        "search: {method: local, budget: 3}\ngrid: {batch_size: [8, 16, 32], learning_rate: [1e-4, 1e-5]}\n"
    )
    made = make_plan(*load_space(tmp_path / "own.yaml"), gpu="cpu")
    assert made.notes[0].startswith("local search begins at b32-lr1e-5, 3 cells at most")


def test_of_an_unknown_pruner_nothing_is_claimed() -> None:
    assert saving(("wilcoxon",), cells=60, calibration=4, workers=1, hold_back=0) is None


def test_a_recorded_sweep_can_stand_for_this_one(tmp_path: Path) -> None:
    lines = [{"format": "curves/1", "grid": "g", "resource": "samples", "source": "made up", "n_trials": 12}]
    lines[0] |= {"objective": {"metric": "loss", "direction": "minimize", "final": "last"}}
    for trial in range(12):
        curve = [{"resource": step, "objective": trial + 1 / step} for step in range(1, 11)]
        lines.append({"trial": f"t{trial}", "config": {"lr": trial}, "final": trial + 0.1, "cost": 10, "curve": curve})
    file = tmp_path / "like.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = saving(("median",), cells=60, calibration=4, workers=2, hold_back=0, like=[str(file)])
    assert found is not None
    assert 0 <= found.low <= found.high < 1
    assert found.high > 0
    assert "replay of like" in found.origin


def works(*batches: int) -> list[Work]:
    return [Work(compute_s=10.0, fixed_s=64 / batch, flops=1e12, evaluation_s=1.0) for batch in batches]


def test_one_trial_sets_the_share_of_the_peak() -> None:
    (work,) = works(64)
    speed = fit([(work, 41.0)], Speed(compute=2.0))
    assert speed == Speed(compute=4.0, fixed=1.0, trials=1)
    assert speed.train_s(work) == 41.0


def test_three_trials_also_tell_what_a_step_costs() -> None:
    speed = fit([(work, 3.0 * work.compute_s + 5.0 * work.fixed_s) for work in works(8, 64, 512)], Speed(compute=2.0))
    assert (speed.compute, speed.fixed) == (pytest.approx(3.0), pytest.approx(5.0))


def test_without_trials_the_speed_is_what_was_assumed() -> None:
    assert fit([], Speed(compute=2.5)) == Speed(compute=2.5)


@pytest.mark.parametrize(
    ("name", "memory", "count", "where"),
    [("h1000", None, None, "--gpu"), ("h100", -1.0, None, "--gpu-memory-gb"), ("h100", None, 0, "--gpus")],
)
def test_flags_that_make_no_sense_are_refused(name: str, memory: float | None, count: int | None, where: str) -> None:
    with pytest.raises(InputError, match=where):
        hardware(name, memory, count)


def test_the_table_says_all_that_was_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space, planned = loaded(tmp_path, "grid.batch_size=[64, 20000]", "pruner=calibrated", "order.calibration=1")
    cells = plans(planned)
    speed = Speed(compute=2.0)
    total = sweep_plan(space, cells, H100, price=2.0)
    print_plan(cells, total, H100, speed, ["a note"], sys.stdout)
    printed = capsys.readouterr().out
    for part in ("b64-lr1e-5", "larger than the training data", "4 cells: 2 can run, 2 infeasible", "GPU-hours = "):
        assert part in printed
    for part in ("2 trials at a time", "with pruning: ", "% saved (calibrated", "a note", "assumes 50% of the peak"):
        assert part in printed
    print_cell(cells[0], H100, speed, sys.stdout)
    printed = capsys.readouterr().out
    for part in ("parameters", "optimizer", "activations", "accumulation", "GPU-hours", "checkpoint", "at its peak"):
        assert part in printed
    assert math.isfinite(total.gpu_hours)
