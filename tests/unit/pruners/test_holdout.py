from __future__ import annotations

from benchmarks.pruners.holdout import choose, halves, holdout_table


def row(grid: str, pruner: str, saved: float, kept: float) -> dict[str, object]:
    return {"grid": grid, "pruner": pruner, "saved": saved, "kept": kept}


ROWS = [
    *(row(grid, "bold", 0.8, kept) for grid, kept in (("a_1", 1.0), ("a_2", 0.0), ("b_1", 1.0), ("b_2", 0.0))),
    *(row(grid, "timid", 0.2, 1.0) for grid in ("a_1", "a_2", "b_1", "b_2")),
]


def test_both_halves_hold_every_family():
    assert halves(["b_2", "a_1", "a_2", "b_1", "a_1"]) == (["a_1", "b_1"], ["a_2", "b_2"])


def test_the_rule_that_saves_most_and_still_keeps_enough_is_chosen():
    assert choose(ROWS, 0.5) == "bold"
    assert choose(ROWS, 0.95) == "timid"
    assert choose(ROWS, 1.1) is None


def test_a_rule_chosen_on_one_half_is_reported_on_the_other():
    lines = holdout_table(ROWS, 0.95).splitlines()
    assert lines[2] == "| first half | bold | 0.80 / 1.00 | 0.80 / 0.00 |"
    assert lines[3] == "| second half | timid | 0.20 / 1.00 | 0.20 / 1.00 |"
