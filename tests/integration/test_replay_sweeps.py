"""Whole sweeps on the simulated clock: what is spent, kept and printed."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from sweeper.cli import build_parser
from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.pruners import history, report
from sweeper.pruners.compose import from_spec
from sweeper.replay import load_curves, replay, simulate
from sweeper.replay.command import execute
from sweeper.replay.ledger import ReplayLedger, measurement_of
from sweeper.replay.score import regret, saved
from sweeper.replay.sweeps import recorded_grid

RATES = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]


def rows(length: int = 10) -> list[dict]:
    """A header and a grid of two batch sizes by eight rates, the best at 3e-4; the highest rate becomes NaN."""
    header = {
        "format": "curves/1",
        "grid": "toy",
        "objective": {"metric": "loss", "direction": "minimize", "final": "best over the run"},
        "resource": "samples",
    }
    found = [header]
    for batch in (16, 64):
        for place, rate in enumerate(RATES):
            level = 1.0 + 0.2 * abs(place - 3) + 0.01 * (batch == 64)
            values: list = [level + 1.0 / k for k in range(1, length + 1)]
            final = values[-1]
            if rate == RATES[-1]:
                values[4:] = ["NaN"] * (length - 4)
                final = values[3]
            points = [{"resource": 100 * k, "objective": v, "train_loss": v} for k, v in enumerate(values, 1)]
            config = {"batch_size": batch, "learning_rate": rate, "seed": 0}
            name = f"b{batch}-lr{rate}"
            found.append({"trial": name, "config": config, "final": final, "cost": 100 * length, "curve": points})
    return found


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    file = tmp_path / "toy.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return file


def ended(path: Path, spec, **how):
    grid = load_curves(path)
    return grid, simulate(grid, from_spec(spec, direction="minimize"), **how)


@pytest.mark.parametrize("workers", [1, 4, 99])
def test_without_pruners_and_guards_every_trial_runs_to_its_end(toy, workers):
    grid, ending = ended(toy, [{"guards": False}], workers=workers)
    assert ending.stopped_at == (None,) * 16
    assert saved(grid, ending.stopped_at) == 0
    assert regret(grid, ending.stopped_at) == 0


def test_a_nan_ends_its_trial_at_that_report_calibration_or_not(toy):
    _, ending = ended(toy, [])
    assert [stop for stop in ending.stopped_at if stop is not None] == [500, 500]
    assert {v.rule for v in ending.verdicts if v is not None} == {"non_finite"}


@pytest.mark.parametrize("workers", [1, 4, 16])
@pytest.mark.parametrize("spec", ["median", "early_dynamics", "calibrated", "successive_halving", "hyperband"])
def test_a_replay_is_the_same_each_time(toy, spec, workers):
    first, second = (ended(toy, spec, workers=workers, seed=3)[1] for _ in range(2))
    assert first.stopped_at == second.stopped_at
    assert [v and v.reason for v in first.verdicts] == [v and v.reason for v in second.verdicts]


def test_another_seed_is_another_order(toy):
    endings = {ended(toy, "median", seed=seed)[1].stopped_at for seed in range(6)}
    assert len(endings) > 1


@pytest.mark.parametrize("workers", [1, 4])
def test_the_calibrated_pruner_saves_on_an_easy_grid_and_keeps_its_best(toy, workers):
    guards_alone = 2 * 500 / 16000
    for seed in range(4):
        grid, ending = ended(toy, "calibrated", workers=workers, seed=seed)
        assert saved(grid, ending.stopped_at) > guards_alone
        assert regret(grid, ending.stopped_at) <= 0.05


def test_scores_follow_their_definitions(toy):
    grid = load_curves(toy)
    stops: list = [None] * 16
    stops[3], stops[0] = 100, 0
    assert saved(grid, stops) == pytest.approx(1 - (14 * 1000 + 100) / 16000)
    finals = sorted(trial.final for trial in grid.trials)
    unit = (finals[7] + finals[8]) / 2 - finals[0]
    assert regret(grid, stops) == pytest.approx(0.01 / unit)
    assert regret(grid, [100] * 16) == pytest.approx((finals[-1] - finals[0]) / unit)


def test_more_workers_finish_no_later_and_averages_count_every_order(toy):
    grid = load_curves(toy)
    found = list(replay(grid, "median", lambda d: from_spec("median", direction=d), workers=(1, 16), orders=3))
    assert [(score.workers, score.orders) for score, _ in found] == [(1, 3), (16, 3)]
    score, endings = found[0]
    assert score.saved == pytest.approx(sum(saved(grid, e.stopped_at) for e in endings) / 3)
    assert score.kept in (0, 1 / 3, 2 / 3, 1)


def command(*words: str) -> int:
    return execute(build_parser().parse_args(["replay", *words]))


def test_the_command_prints_one_object_per_grid_pruner_and_workers(toy, capsys, tmp_path):
    out = tmp_path / "decisions.jsonl"
    spec = "[{calibrated: {risk: 0.05}}]"
    words = ["--pruner", "median", "--pruner", spec, "--workers", "1,4", "--orders", "2", "--json"]
    assert command(str(toy), *words, "--decisions", str(out)) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(p["pruner"], p["workers"]) for p in printed] == [("median", 1), ("median", 4), (spec, 1), (spec, 4)]
    assert set(printed[0]) == {"grid", "pruner", "workers", "orders", "saved", "kept", "regret"}
    decisions = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(decisions) == 2 * 2 * 2 * 16
    assert set(decisions[0]) == {"grid", "workers", "order", "trial", "stopped_at"}


def test_pausing_that_costs_more_saves_less_and_keeps_the_best_all_the_same(toy, capsys):
    words = ["--pruner", "calibrated", "--mode", "promote", "--workers", "1", "--orders", "1", "--json"]
    found = []
    for costs in ([], ["--save-cost", "0.2", "--restore-cost", "0.2"]):
        assert command(str(toy), *words, *costs) == 0
        found.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    free, paid = found
    assert all(a["saved"] > b["saved"] for a, b in zip(free, paid, strict=True))
    assert free[0]["kept"] == paid[0]["kept"] == 1.0


def test_the_table_for_people_names_grid_and_pruner(toy, capsys):
    assert command(str(toy), "--pruner", "median", "--workers", "1", "--orders", "1") == 0
    out = capsys.readouterr().out
    assert "toy" in out
    assert "median" in out


def test_signals_are_shown_without_any_pruner(toy, capsys):
    assert command(str(toy), "--signals") == 0
    out = capsys.readouterr().out
    assert "train_loss" in out
    assert "claims  higher early train_loss ends better: does not hold" in out


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_plot_is_written_in_the_format_that_its_name_ends_in(toy, tmp_path, suffix):
    picture = tmp_path / f"plot{suffix}"
    words = ["--pruner", "median", "--pruner", "calibrated", "--workers", "1,4", "--orders", "2"]
    assert command(str(toy), *words, "--plot", str(picture)) == 0
    head = picture.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in head


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--pruner", "mediann"], "did you mean 'median'"),
        (["--pruner", "median", "--workers", "0"], "--workers"),
        (["--pruner", "median", "--plot", "plot.gif"], "end in .png or .svg"),
        ([], "--pruner: nothing to do"),
        (["--pruner", "median", "--workers", "two"], "--workers"),
        (["--pruner", "median", "--orders", "0"], "--orders"),
        (["--pruner", "[median"], "--pruner:1: not valid YAML"),
        (["--pruner", "median", "--save-cost", "0.1"], "--save-cost: nothing is paused in mode stop"),
        (["--pruner", "median", "--mode", "promote", "--restore-cost", "-1"], "--restore-cost: must be at least 0"),
        (
            ["--pruner", "median", "--mode", "promote", "--order", "random"],
            "--order: promotion has an order of its own",
        ),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(toy, tmp_path, words, told):
    out = tmp_path / "decisions.jsonl"
    with pytest.raises(InputError, match=told):
        command(str(toy), *words, "--decisions", str(out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda found: found[0].update(format="curves/2"), r"toy\.jsonl:1: the first line must be a header"),
        (lambda found: found[0]["objective"].update(direction="up"), r"toy\.jsonl:1: .*minimize or maximize"),
        (lambda found: found[2].pop("final"), r"toy\.jsonl:3: not a trial.*final"),
        (lambda found: found[3]["curve"].reverse(), r"toy\.jsonl:4: .*rising"),
        (lambda found: found[3]["curve"][0].update(resource=0.5), r"toy\.jsonl:4: .*whole number"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path, break_it, told):
    found = rows()
    break_it(found)
    file = tmp_path / "toy.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    with pytest.raises(InputError, match=told):
        load_curves(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_curves(tmp_path / "none.jsonl")


def live_study(count: int) -> optuna.Study:
    """A study as a live sweep leaves it: warmup, a first step's loss, two milestones a trial, one trial pruned."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for index in range(count):
        trial = study.ask()
        trial.set_user_attr("axes", {"learning_rate": 10.0**-index})
        for k in (1, 2):
            first = StepPoint(
                step=1, samples_seen=8, tokens_seen=80, loss=5.0, grad_norm=2.0, learning_rate=0.1, seconds=0.1
            )
            measured = Measurement(
                milestone=k,
                samples_seen=100 * k + index,
                tokens_seen=1000 * k,
                step=k,
                warmup_done=k == 2,
                train_loss=3.0 / k,
                grad_norm=1.0,
                scores={},
                train_s=1.0,
                eval_s=0.0,
                peak_memory_bytes=1,
                is_last=k == 2,
                series=(first,),
            )
            report(trial, measured, 0.1 * k + index)
        study.tell(trial, 0.2 + index)
    study.tell(study.ask(), state=optuna.trial.TrialState.PRUNED)
    return study


def test_a_live_study_replays_with_the_same_record():
    study = live_study(3)
    grid, left_out = recorded_grid(study, "live")
    assert left_out == 1
    ledger = ReplayLedger(grid, optuna.pruners.NopPruner(), frozenset())
    for index in range(3):
        ledger.start(str(index))
        for place in range(2):
            ledger.record(str(index), measurement_of(grid, index, place))
    for live, replayed in zip(study.trials[:3], ledger.study.trials, strict=True):
        assert history(replayed) == history(live)
        assert replayed.user_attrs["axes"] == live.user_attrs["axes"]


def test_a_study_without_two_complete_trials_cannot_be_replayed():
    with pytest.raises(InputError, match="pruner: nop"):
        recorded_grid(live_study(1), "live")
