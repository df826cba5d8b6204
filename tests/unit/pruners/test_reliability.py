from __future__ import annotations

from benchmarks.pruners.reliability import Claim, claims, table
from benchmarks.pruners.worlds import draw


def claim(chance: float, came_true: bool, weight: float = 1.0) -> Claim:
    return Claim(forecaster="stall", chance=chance, came_true=came_true, weight=weight)


def test_claims_stand_in_bins_beside_what_came_of_them_weighted():
    shown = table([claim(0.05, True), claim(0.03, False, weight=3.0), claim(1.0, True)])
    row = [cell.strip() for cell in shown.splitlines()[-1].strip("|").split("|")]
    assert row == ["stall", "", "", "", "0.03500 / 0.25000 (4, 1)", "1.00000 / 1.00000 (1, 1)"]


def test_every_forecaster_is_asked_about_winners_and_others_and_the_same_seed_asks_the_same():
    grid = draw("crossing", 0)
    found = list(claims(grid, 4, 0))
    assert {each.forecaster for each in found} == {"stall", "pace", "process"}
    assert {each.came_true for each in found} == {True, False}
    assert all(0 <= each.chance <= 1 and each.weight >= 1 for each in found)
    assert found == list(claims(grid, 4, 0))
