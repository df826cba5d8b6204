"""Is the first really first? The verdict on made-up leaders, next to the textbook's tests."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

import pytest
from scipy import stats

from sweeper.confirm.compare import confirmation
from sweeper.core.confirmation import Confirmation
from sweeper.core.record import TrialRow
from sweeper.core.standings import standings

Fresh = Sequence[float | None]


def row(name: str, value: float | None, *, of: str = "", seed: int = 0, state: str = "") -> TrialRow:
    return TrialRow(
        fingerprint=f"{name}/{seed}" if of else name,
        name=name,
        axes={"learning_rate": name},
        state=state or ("complete" if value is not None else "running"),
        objective=value,
        replicate_of=of,
        seed=seed,
    )


def found(grid: dict[str, float], fresh: dict[str, Fresh], *, maximize: bool = False) -> Confirmation:
    rows = [row(name, value) for name, value in grid.items()]
    rows += [
        row(name, value, of=name, seed=seed)
        for name, values in fresh.items()
        for seed, value in enumerate(values, start=1)
    ]
    result = confirmation(rows, maximize=maximize)
    assert result is not None
    return result


GRID = {"a": 1.0, "b": 1.1, "c": 1.2, "d": 5.0}


@pytest.mark.parametrize(
    ("fresh", "verdict"),
    [
        ({"a": [1.0, 2.0, 3.0], "b": [1.5, 2.51, 3.5]}, "confirmed"),
        ({"a": [1.0, 2.0, 3.0], "b": [0.5, 1.51, 2.5]}, "b is better"),
        ({"a": [1.0, 2.0, 3.0], "b": [1.5, 1.5, 3.2]}, "not distinguishable from b"),
        ({"a": [1.0, 1.0, 1.0], "b": [1.0, 1.0, 1.0]}, "not distinguishable from b"),
        ({"a": [1.0, 2.0, 3.0], "b": [1.5, 2.51, 3.5], "c": [1.01, 1.99, 3.0]}, "not distinguishable from c"),
        ({"a": [1.0, 2.0, 3.0], "b": [1.5, 2.51, 3.5], "c": [0.5, 1.51, 2.5]}, "c is better"),
        ({"a": [1.0, None, None], "b": [1.5, 2.5, 3.5]}, "too few runs"),
        ({"a": [None, None], "b": [None, None]}, "too few runs"),
    ],
)
def test_the_verdict(fresh: dict[str, Fresh], verdict: str) -> None:
    assert found(GRID, fresh).verdict == verdict


def test_higher_may_be_better() -> None:
    fresh: dict[str, Fresh] = {"d": [3.0, 2.0], "c": [1.0, 0.01]}
    result = found(GRID, fresh, maximize=True)
    assert (result.first, result.verdict, result.rivals[0].lead) == ("d", "confirmed", pytest.approx(1.995))


def test_two_leaders_are_compared_by_the_paired_t_test() -> None:
    draw = random.Random(0)
    a, b = ([draw.gauss(1, 0.2) for _ in range(5)] for _ in range(2))
    (rival,) = found(GRID, {"a": a, "b": b}).rivals
    reference = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (rival.low, rival.high) == (pytest.approx(reference.low), pytest.approx(reference.high))


def test_the_luck_of_a_seed_falls_out_of_the_difference() -> None:
    luck = [0.0, 3.0, -2.0]
    near: Fresh = [1.0 + each for each in luck]
    far: Fresh = [1.1 + each + extra for each, extra in zip(luck, (0.001, -0.001, 0.0), strict=True)]
    result = found(GRID, {"a": near, "b": far})
    assert result.verdict == "confirmed"
    assert result.rivals[0].half_width < 0.01
    assert result.half_width is not None
    assert result.half_width > 1


def test_three_leaders_share_one_noise_of_seeds_and_leaders() -> None:
    scores = {"a": [1.0, 2.0, 3.5], "b": [1.6, 2.4, 4.1], "c": [2.2, 3.0, 4.0]}
    rivals = {rival.name: rival for rival in found(GRID, dict(scores)).rivals}
    overall = statistics.fmean(value for values in scores.values() for value in values)
    blocks = [statistics.fmean(values[place] for values in scores.values()) for place in range(3)]
    squares = sum(
        (value - statistics.fmean(values) - block + overall) ** 2
        for values in scores.values()
        for value, block in zip(values, blocks, strict=True)
    )
    width = stats.t.ppf(0.975, 4) * (squares / 4 * 2 / 3) ** 0.5
    assert [rivals[name].half_width for name in "bc"] == pytest.approx([width, width])


def test_a_seed_that_one_leader_lost_counts_for_no_pair_with_it() -> None:
    rows = [row("a", 1.0), row("b", 1.1)]
    rows += [row("a", value, of="a", seed=seed) for seed, value in enumerate([1.0, 1.1, 1.2], start=1)]
    rows += [row("b", value, of="b", seed=seed) for seed, value in enumerate([1.5, 1.6], start=1)]
    rows.append(row("b-s3", 9.0, of="b", seed=3, state="pruned"))
    result = confirmation(rows, maximize=False)
    assert result is not None
    assert (result.rivals[0].seeds, result.runs, result.lost) == (2, 3, ("b-s3",))


def test_the_run_that_made_a_leader_does_not_count_for_it() -> None:
    rows = [row("a", 0.1), row("b", 1.1), *(row("a", 1.0, of="a", seed=seed) for seed in (1, 2))]
    rows += [row("b", 0.9, of="b", seed=seed) for seed in (1, 2)]
    assert [(each.name, each.score) for each in standings(rows, maximize=False)] == [("b", 0.9), ("a", 1.0)]


def test_leaders_that_were_run_again_stay_ahead_of_those_that_were_not() -> None:
    rows = [row("a", 0.1), row("lucky", 0.2), *(row("a", 0.5, of="a", seed=seed) for seed in (1, 2))]
    assert [each.name for each in standings(rows, maximize=False)] == ["a", "lucky"]


def test_without_fresh_runs_there_is_nothing_to_say() -> None:
    assert confirmation([row("a", 1.0), row("b", 2.0)], maximize=False) is None


def test_what_is_said_fits_a_terminal_and_names_all_there_is() -> None:
    lines = found(GRID, {"a": [1.0, 2.0, 3.0], "b": [1.5, 1.5, 3.2], "c": [2.0, None, 4.0]}).lines()
    assert lines[:2] == ["a: not distinguishable from b", "mean 2.000 +- 2.5 over 3 fresh seeds"]
    assert any(line.startswith("0.0667 ahead of b (2.067), 95%: -") and line.endswith("3 seeds") for line in lines)
    assert lines[-1] == "1 run with fresh seeds not ended: the same command goes on"
    assert max(map(len, lines)) <= 72
