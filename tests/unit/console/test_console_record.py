"""The summary of a sweep and the closing words: every number comes from the rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from record_cases import sweep_info

from sweeper.core.closing import closing_lines
from sweeper.core.figures import count, duration, number
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo, TrialRow, summarise


def _row(name: str, state: str, objective: float | None, seen: int = 100, **changes: Any) -> TrialRow:
    fields: dict[str, Any] = {"axes": {"learning_rate": 1e-3}, "planned_samples": 100, "train_s": 2.0, "eval_s": 0.5}
    return TrialRow(
        fingerprint=name, name=name, state=state, objective=objective, samples_seen=seen, **fields | changes
    )


def _summary(*rows: TrialRow, direction: str = "minimize") -> SweepSummary:
    plain = {**sweep_info(Path("/s")).to_json(), "direction": direction}
    return summarise(SweepInfo.from_json(plain), rows, elapsed_s=7.0)


@pytest.mark.parametrize(("direction", "best", "second"), [("minimize", "b", "a"), ("maximize", "a", "b")])
def test_only_completed_trials_with_a_finite_objective_can_win(direction: str, best: str, second: str) -> None:
    summary = _summary(
        _row("a", "complete", 2.0),
        _row("b", "complete", 1.0),
        _row("nan", "complete", math.nan),
        _row("none", "complete", None),
        _row("pruned", "pruned", 0.5, seen=50),
        _row("failed", "fail", 9.0),
        direction=direction,
    )
    assert summary.best is not None
    assert summary.runner_up is not None
    assert (summary.best.name, summary.runner_up.name, summary.gap) == (best, second, 1.0)


def test_savings_count_the_samples_not_seen_at_each_trials_own_speed() -> None:
    summary = _summary(
        _row("a", "complete", 1.0, seen=112),
        _row("b", "pruned", 2.0, seen=25),
        _row("c", "infeasible", None, seen=0),
    )
    assert (summary.full_samples, summary.seen_samples) == (200, 125)
    assert summary.saved_samples_share == pytest.approx(0.375)
    assert summary.saved_s == pytest.approx(75 / 25 * 2.5)


def test_a_trial_pruned_at_once_has_no_speed_to_estimate_from() -> None:
    assert _summary(_row("a", "pruned", None, seen=0)).saved_s == 0.0


@pytest.mark.parametrize(
    ("direction", "objective", "named"),
    [("minimize", 0.9, True), ("minimize", 1.1, False), ("minimize", math.nan, False), ("maximize", 1.1, True)],
)
def test_a_pruned_trial_that_was_ahead_of_the_winner_is_named(direction: str, objective: float, named: bool) -> None:
    summary = _summary(_row("a", "complete", 1.0), _row("b", "pruned", objective, seen=50), direction=direction)
    assert (summary.pruned_ahead is not None) is named
    assert any(line.startswith("doubt   b was pruned at 50 samples") for line in closing_lines(summary)) is named


def test_the_summary_comes_back_from_json() -> None:
    summary = _summary(_row("a", "complete", 1.0), _row("b", "pruned", math.inf, seen=50, rule="non_finite"))
    assert SweepSummary.from_json(summary.to_json()) == summary


def test_sweep_and_trial_come_back_from_json() -> None:
    from record_cases import trial_info

    assert SweepInfo.from_json(sweep_info(Path("/s")).to_json()) == sweep_info(Path("/s"))
    assert TrialInfo.from_json(trial_info().to_json()) == trial_info()


def test_the_closing_words_name_winner_gap_savings_rules_and_what_to_do_next() -> None:
    text = "\n".join(
        closing_lines(
            _summary(
                _row("a", "complete", 1.25),
                _row("b", "complete", 1.0),
                _row("c", "pruned", 3.0, seen=50, rule="early_dynamics"),
                _row("d", "pruned", 3.0, seen=50, rule="early_dynamics"),
                _row("e", "pruned", 3.0, seen=50, rule="non_finite"),
            )
        )
    )
    assert "best    b: heldout_loss 1.000  (learning_rate 1e-3)" in text
    assert "why     0.250 lower than the runner-up a (1.250)" in text
    assert "cells   5 cells: 2 ran to the end, 3 pruned" in text
    assert "pruned  2 by early_dynamics, 1 by non_finite" in text
    assert "saved   30% of the full grid's samples: 150 of 500" in text
    assert "sweeper export made-up --to yaml" in text


@pytest.mark.parametrize(
    ("rates", "best", "said"),
    [
        ([1e-4, 1e-3, 1e-2], 1e-2, "learning_rate 0.01 is the highest tried: the best may lie beyond"),
        ([1e-4, 1e-3, 1e-2], 1e-4, "learning_rate 1e-4 is the lowest tried: the best may lie beyond"),
        ([1e-4, 1e-3, 1e-2], 1e-3, None),
        ([0.0, 1e-3, 1e-2], 0.0, None),
        ([1e-3, 1e-2], 1e-2, None),
        (["a", "b", "c"], "c", None),
        ([[1], [2], [3]], [3], None),
    ],
)
def test_a_winner_at_an_end_of_an_axis_is_said_to_be_there(rates: list[Any], best: Any, said: str | None) -> None:
    rows = [_row(str(rate), "complete", float(rate != best), axes={"learning_rate": rate}) for rate in rates]
    found = [line for line in closing_lines(_summary(*rows)) if "tried" in line]
    assert found == ([f"edge    {said}"] if said else [])


def test_values_that_could_not_run_are_no_part_of_what_was_tried() -> None:
    rows = [_row(str(size), "complete", 9.0 - size, axes={"batch_size": size}) for size in (1, 2, 4)]
    rows.append(_row("8", "infeasible", None, seen=0, axes={"batch_size": 8}))
    assert "edge    batch_size 4 is the highest tried: the best may lie beyond" in closing_lines(_summary(*rows))


def test_a_sweep_without_a_winner_says_so_and_offers_no_export() -> None:
    text = "\n".join(closing_lines(_summary(_row("a", "fail", None, seen=0))))
    assert "no best config" in text
    assert "export" not in text


def test_no_closing_line_is_wider_than_80_columns() -> None:
    summary = _summary(_row("b3840-lr2e-5-w100", "complete", 1.25), _row("b3840-lr4e-5-w100", "complete", 1.0))
    assert max(map(len, closing_lines(summary))) <= 80


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (0.0, "0"),
        (2.3, "2.300"),
        (12.3456, "12.35"),
        (1234.5, "1234"),
        (123456.0, "1.235e5"),
        (2e-5, "2e-5"),
        (0.00123, "0.001230"),
        (-2.5, "-2.500"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.96, "1 min 00 s"), (185, "3 min 05 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_durations_carry_their_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_set_thousands_apart() -> None:
    assert count(12288) == "12,288"
