"""One cell: whether it fits, what would make it fit, and what it takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from planning_cases import FACTS, loaded, plans

from sweeper.core.config import LoraConfig
from sweeper.planning.hardware import hardware


def test_cells_that_fit_are_feasible_and_told_how_much_more_would_fit(tmp_path: Path) -> None:
    _, planned = loaded(tmp_path)
    for each in plans(planned):
        assert each.infeasible is None
        assert each.memory is not None
        assert each.memory.device < 79.2 * 2**30
        assert each.choice is not None
        assert each.choice.max_tokens_per_rank >= 300


@pytest.mark.parametrize("memory_gb", [30.0, 40.0, 79.2])
def test_the_micro_batches_that_are_chosen_fit(tmp_path: Path, memory_gb: float) -> None:
    _, first = loaded(tmp_path)
    where = hardware("h100", memory_gb, 16)
    chosen = {each.planned.cell.config.train.batch_size: each.choice for each in plans(first, where)}
    for batch_size, choice in chosen.items():
        if choice is None:
            continue
        change = (f"train.max_tokens_per_rank={choice.max_tokens_per_rank}", f"grid.batch_size=[{batch_size}]")
        again = plans(loaded(tmp_path, *change)[1], where)
        assert [each.infeasible for each in again] == [None, None]
        assert all(each.batches and each.batches.micro_batches == choice.accumulation for each in again)


def test_a_micro_batch_that_does_not_fit_is_infeasible_with_the_one_that_does(tmp_path: Path) -> None:
    _, planned = loaded(tmp_path, "train.activation_checkpointing=false", "train.max_tokens_per_rank=65536")
    (large,) = {each.infeasible for each in plans(planned) if each.planned.cell.config.train.batch_size == 1024}
    assert large is not None
    assert "GiB a rank, h100 has 79.2: set train.max_tokens_per_rank: " in large
    fits = int(large.rsplit(" ", 1)[1])
    again = plans(
        loaded(
            tmp_path,
            "train.activation_checkpointing=false",
            f"train.max_tokens_per_rank={fits}",
            "grid.batch_size=[1024]",
        )[1]
    )
    assert [each.infeasible for each in again] == [None, None]


def test_a_model_that_does_not_fit_names_the_least_change_that_helps(tmp_path: Path) -> None:
    _, planned = loaded(tmp_path, "train.ranks=1", "train.engine=single")
    reason = plans(planned)[-1].infeasible
    assert reason is not None
    assert "it would fit with train.activation_checkpointing and train.ranks: " in reason
    ranks = int(reason.rsplit(" ", 1)[1])
    assert ranks > 1
    assert plans(loaded(tmp_path, f"train.ranks={ranks}")[1])[-1].choice is not None


def test_a_rule_of_the_config_comes_before_memory(tmp_path: Path) -> None:
    _, planned = loaded(tmp_path, "grid.batch_size=[20000]", "train.ranks=1")
    assert all("larger than the training data" in (each.infeasible or "") for each in plans(planned))


def test_on_a_cpu_memory_is_told_and_not_judged(tmp_path: Path) -> None:
    _, planned = loaded(tmp_path, "train.ranks=1")
    for each in plans(planned, hardware("cpu", None, 2)):
        assert each.infeasible is None
        assert each.memory is not None
        assert each.memory.margin == 0
        assert each.choice is None


def test_time_grows_with_the_work_and_falls_with_the_ranks(tmp_path: Path) -> None:
    hours = {}
    for ranks in (8, 16):
        found = plans(loaded(tmp_path, f"train.ranks={ranks}", "grid.batch_size=[1024]")[1])[0]
        hours[ranks] = found.train_s
        twice = plans(loaded(tmp_path, f"train.ranks={ranks}", "grid.batch_size=[1024]", "train.epochs=2")[1])[0]
        assert twice.train_s == pytest.approx(2 * found.train_s, rel=0.02)
        assert found.gpu_hours == pytest.approx(ranks * found.seconds / 3600)
    assert hours[8] == pytest.approx(2 * hours[16], rel=0.1)


def test_a_checkpoint_holds_twelve_bytes_for_each_trained_weight(tmp_path: Path) -> None:
    whole = plans(loaded(tmp_path)[1])[0]
    assert whole.checkpoint_bytes == 12 * 7_615_616_512
    adapted = plans(loaded(tmp_path, "train.lora={rank: 8}")[1])[0]
    assert LoraConfig(rank=8).rank == 8
    assert adapted.checkpoint_bytes == 12 * 20_185_088


def test_what_cannot_be_read_from_a_model_is_left_open(tmp_path: Path) -> None:
    facts = FACTS | {"model": {"config": {"model_type": "clip"}}}
    for each in plans(loaded(tmp_path)[1], facts=facts):
        assert each.infeasible is None
        assert each.memory is None
        assert each.seconds == 0
