"""Runs of one configuration with other seeds count as one, by their mean."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.core.milestones import Milestones
from sweeper.core.record import SweepInfo, SweepSummary, TrialRow, summarise


def row(batch_size: int, seed: int, value: float, **more: Any) -> TrialRow:
    return TrialRow(
        fingerprint=f"{batch_size}/{seed}",
        name=f"b{batch_size}-s{seed}",
        axes={"batch_size": batch_size, "seed": seed},
        state=more.pop("state", "complete"),
        objective=value,
        planned_samples=100,
        samples_seen=100,
        train_s=1.0,
        seed=seed,
        **more,
    )


def summary(*rows: TrialRow) -> SweepSummary:
    info = SweepInfo(
        name="s",
        objective="heldout_loss",
        direction="minimize",
        milestones=Milestones.even(100, 2),
        space_yaml="",
        folder="/s",
    )
    return summarise(info, rows, elapsed_s=1.0)


def test_a_lucky_seed_does_not_win_over_a_better_mean() -> None:
    found = summary(row(16, 0, 0.9), row(16, 1, 2.1), row(64, 0, 1.2), row(64, 1, 1.0))
    assert [(each.name, each.score, each.runs) for each in found.standings] == [("b64", 1.1, 2), ("b16", 1.5, 2)]
    assert found.best is not None
    assert found.best.name == "b64-s0", "what is exported is the first of its runs, not the luckiest"
    assert found.gap == pytest.approx(0.4)
    assert found.metrics()["best_objective"] == pytest.approx(1.1)


def test_seeds_that_did_not_finish_are_left_out() -> None:
    found = summary(row(16, 0, 1.0), row(16, 1, 50.0, state="pruned"), row(64, 0, 1.2))
    assert [(each.name, each.runs) for each in found.standings] == [("b16", 1), ("b64", 1)]


def test_fresh_runs_cost_time_and_are_no_cells_of_the_grid() -> None:
    grid = (row(16, 0, 1.0), row(64, 0, 1.2))
    found = summary(*grid, row(16, 1, 1.1, replicate_of="16/0"), row(64, 1, 9.0, replicate_of="64/0", state="pruned"))
    assert found.counts == {"complete": 2}
    assert (found.full_samples, found.seen_samples) == (200, 200)
    assert found.spent_s == 4.0
    assert found.rules == {}
    assert found.pruned_ahead is None
    assert SweepSummary.from_json(found.to_json()) == found


def test_a_copy_with_another_seed_is_the_same_configuration_where_the_grid_has_no_seeds() -> None:
    plain = TrialRow(fingerprint="x", name="b16", axes={"batch_size": 16}, state="complete", objective=1.0)
    found = summary(plain, row(16, 5, 2.0), row(64, 5, 1.2))
    assert [(each.name, each.score) for each in found.standings] == [("b64", 1.2), ("b16", 1.5)]
