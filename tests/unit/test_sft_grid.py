"""Recording a grid: what is written is read back, and a recording that was broken off is taken up."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.sft_grid.__main__ import finished
from benchmarks.sft_grid.lines import header_line, trial_line
from benchmarks.sft_grid.worlds import SPACES, WORLDS
from sweeper.adapters.yaml_space import load_space
from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement
from sweeper.replay.curves import load_curves

SPACE = SPACES / "facts.yaml"


def measurement(milestone: int, score: float, *, warmup_done: bool = True) -> Measurement:
    return Measurement(
        milestone=milestone,
        samples_seen=100 * milestone,
        tokens_seen=1000 * milestone,
        step=milestone,
        warmup_done=warmup_done,
        train_loss=math.inf,
        grad_norm=0.1234567,
        scores={"exact_match": score},
        train_s=1.0,
        eval_s=0.1,
        peak_memory_bytes=1,
        is_last=milestone == 2,
        extra={"noise_scale": 12.0, "tokens_per_s": 5.0},
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    space, cells = load_space(SPACE)
    file = tmp_path / "grid.jsonl"
    lines = [trial_line(cells[0], [measurement(1, 0.1, warmup_done=False), measurement(2, 0.5)], "exact_match")]
    lines.append(trial_line(cells[1], [measurement(1, 0.2), measurement(2, math.nan)], "exact_match"))
    file.write_text(header_line(space, "facts", 0, 2, "a test") + "".join(lines))
    return file


def test_a_recorded_grid_is_read_back(recorded: Path) -> None:
    grid = load_curves(recorded)
    first, second = grid.trials
    assert (grid.name, grid.direction) == ("sft-grid_facts_seed0", "maximize")
    assert (first.final, first.cost) == (0.5, 200)
    assert math.isnan(second.final)
    assert first.points[0].signals == {"objective": 0.1, "train_loss": math.inf, "grad_norm": 0.123457}
    assert [point.warmup_done for point in first.points] == [False, True]


def test_warmup_done_must_be_true_or_false(recorded: Path) -> None:
    recorded.write_text(recorded.read_text().replace('"warmup_done":false', '"warmup_done":"no"'))
    with pytest.raises(InputError, match=r"grid\.jsonl:2: warmup_done must be true or false, got 'no'"):
        load_curves(recorded)


def test_a_torn_line_is_cut_off_and_its_trial_recorded_again(recorded: Path) -> None:
    text = recorded.read_text()
    names = [json.loads(line)["trial"] for line in text.splitlines()[1:]]
    assert finished(recorded) == set(names)
    recorded.write_text(text[:-20])
    assert finished(recorded) == {names[0]}
    assert len(recorded.read_text().splitlines()) == 2


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_has_at_least_48_cells(world: str) -> None:
    sets = ["model.path=x", "data.train=x", "data.test.new=x"]
    assert len(load_space(SPACES / f"{world}.yaml", sets)[1]) >= 48


@pytest.mark.parametrize("seed", ["facts_seed0", "facts_seed1", "wide_seed0", "mawps_seed0"])
def test_a_recorded_grid_that_ships_is_whole(seed: str) -> None:
    file = SPACES.parent / "grids" / f"sft-grid_{seed}.jsonl"
    grid = load_curves(file)
    assert len(grid.trials) == json.loads(file.read_text().split("\n")[0])["n_trials"] == 48
    assert all(
        {"objective", "train_loss", "grad_norm"} <= set(point.signals) for t in grid.trials for point in t.points
    )
    assert all(math.isfinite(trial.final) for trial in grid.trials)
