"""Local search: what is tested, in which order, and where it ends."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.decode import DecodeError, decode
from sweeper.core.errors import InputError
from sweeper.core.search import LATER, LocalSearch, SearchConfig
from sweeper.core.space import SearchSpace, expand

Key = tuple[float, ...]


def plane(**axes: list) -> dict[Key, dict]:
    return {values: dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())}


def walk(search: LocalSearch, cells, final, workers: int = 1) -> list:
    """Return the cells in the order in which they were started; of several that run, the first one ends first."""
    waiting, running, ended, order = list(cells), [], {}, []
    while True:
        chosen = search.next(waiting, running, ended)
        if chosen is not LATER and chosen is not None:
            waiting.remove(chosen)
            running.append(chosen)
            order.append(chosen)
            if len(running) < workers:
                continue
        if not running:
            return order
        done = running.pop(0)
        ended[done] = final(done)


def test_one_axis_is_climbed_from_the_start_until_the_next_value_is_worse():
    cells = plane(learning_rate=[1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
    order = walk(LocalSearch(cells, start={"learning_rate": 1e-6}), cells, lambda key: abs(math.log10(key[0]) + 4.2))
    assert order == [(1e-6,), (1e-5,), (1e-4,), (1e-3,)]


def test_an_improvement_is_followed_before_other_axes_are_tried():
    cells = plane(epochs=[1, 2, 3], learning_rate=[1e-5, 1e-4, 1e-3])
    order = walk(LocalSearch(cells), cells, lambda key: abs(math.log10(key[1]) + 3) + abs(key[0] - 1))
    assert order[:3] == [(1, 1e-5), (1, 1e-4), (1, 1e-3)]
    assert order[3:] == [(2, 1e-3)], "then the other axis, where nothing improves"


def test_batch_and_rate_are_moved_together_where_neither_alone_helps():
    cells = plane(batch_size=[16, 64, 256], learning_rate=[1e-4, 1e-3, 1e-2])
    ridge = {(256, 1e-3): 2.0, (64, 1e-4): 1.0}
    order = walk(LocalSearch(cells, start={"batch_size": 256, "learning_rate": 1e-3}), cells, lambda k: ridge.get(k, 3))
    assert order[:5] == [(256, 1e-3), (256, 1e-4), (256, 1e-2), (64, 1e-3), (64, 1e-4)]
    assert set(order[5:]) == {(16, 1e-4), (64, 1e-3), (16, 1e-3)} - set(order[:5])


def test_the_default_start_is_the_grid_cell_nearest_to_the_paper():
    cells = plane(
        schedule=["cosine", "constant"], warmup_steps=[25, 0], batch_size=[128, 3840, 7680], learning_rate=[1e-6, 2e-5]
    )
    assert LocalSearch(cells).first[0] == ("constant", 0, 3840, 2e-5)
    small = plane(batch_size=[16, 64], learning_rate=[1e-4, 1e-3], **{"lora.rank": [64, 2]})
    assert LocalSearch(small).first[0] == (64, 1e-4, 64), "any other axis starts at its first value"


def test_a_start_that_has_no_cell_stands_for_the_nearest_one():
    cells = plane(batch_size=[16, 64], learning_rate=[1e-4, 1e-3])
    del cells[64, 1e-3]
    search = LocalSearch(cells, start={"batch_size": 64, "learning_rate": 1e-3})
    assert search.first[0] in {(16, 1e-3), (64, 1e-4)}


def test_a_missing_neighbour_is_stepped_over():
    cells = plane(learning_rate=[1e-5, 1e-4, 1e-3])
    del cells[1e-4,]
    assert walk(LocalSearch(cells, start={"learning_rate": 1e-5}), cells, lambda key: -key[0]) == [(1e-5,), (1e-3,)]


def test_values_without_an_order_are_all_neighbours():
    cells = plane(schedule=["linear", "constant", "wsd", "cosine"])
    assert LocalSearch(cells).first == (("constant",), ("linear",), ("wsd",), ("cosine",))


def test_a_trial_without_a_final_is_never_the_centre():
    cells = plane(learning_rate=[1e-5, 1e-4, 1e-3, 1e-2])
    assert walk(LocalSearch(cells, start={"learning_rate": 1e-5}), cells, {(1e-5,): 1.0}.get) == [(1e-5,), (1e-4,)]
    nan = LocalSearch(cells, start={"learning_rate": 1e-5})
    assert nan.best({(1e-5,): 1.0, (1e-4,): math.nan, (1e-3,): -math.inf}) == (1e-5,)


def test_where_the_start_and_its_neighbours_broke_it_goes_on_to_wherever_a_trial_survives():
    cells = plane(learning_rate=[1e-5, 1e-4, 1e-3, 1e-2])
    order = walk(LocalSearch(cells, start={"learning_rate": 1e-2}), cells, {(1e-5,): 2.0, (1e-4,): 1.0}.get)
    assert order == [(1e-2,), (1e-3,), (1e-4,), (1e-5,)]


def test_the_larger_objective_is_better_where_it_is_maximised():
    cells = plane(learning_rate=[1e-5, 1e-4, 1e-3])
    up, down = LocalSearch(cells, maximize=True), LocalSearch(cells)
    assert len(walk(up, cells, lambda key: key[0])) == 3
    assert len(walk(down, cells, lambda key: key[0])) == 2


def test_no_more_cells_are_started_than_the_budget():
    cells = plane(learning_rate=[1e-5, 1e-4, 1e-3, 1e-2])
    for workers in (1, 3):
        assert len(walk(LocalSearch(cells, budget=3), cells, lambda key: -key[0], workers)) == 3


def test_several_workers_test_the_neighbours_of_the_start_at_once_and_wait_for_the_outcome():
    cells = plane(batch_size=[16, 64, 256], learning_rate=[1e-5, 1e-4, 1e-3])
    search = LocalSearch(cells, start={"batch_size": 64, "learning_rate": 1e-4})
    running = list(search.first)
    assert len(running) == 9
    assert search.next([], running, {}) is LATER
    assert search.next([], [], dict.fromkeys(running, 1.0)) is None


def test_the_reason_names_the_best_and_what_ended_the_search():
    cells = plane(learning_rate=[1e-5, 1e-4])
    ended = {(1e-5,): 1.0}
    assert LocalSearch(cells).reason(ended, str).endswith("ended at (1e-05,), which no neighbour of it betters")
    assert "the 1 cells of its budget; (1e-05,) is the best" in LocalSearch(cells, budget=1).reason(ended, str)
    assert LocalSearch(cells).reason({(1e-5,): None}, str).endswith("no trial ran to its end")


@settings(max_examples=60, deadline=None)
@given(
    finals=st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=18, max_size=18),
    workers=st.sampled_from([1, 2, 5]),
    holes=st.sets(st.integers(0, 17), max_size=6),
)
def test_it_always_ends_starts_no_cell_twice_and_no_neighbour_of_its_best_is_left_untested(finals, workers, holes):
    whole = plane(batch_size=[16, 64, 256], learning_rate=[1e-5, 1e-4, 1e-3], schedule=["constant", "cosine"])
    final = dict(zip(whole, finals, strict=True))
    cells = {key: cell for place, (key, cell) in enumerate(whole.items()) if place not in holes}
    search = LocalSearch(cells)
    order = walk(search, cells, final.__getitem__, workers)
    assert len(order) == len(set(order))
    ended = {key: final[key] for key in order}
    best = search.best(ended)
    if best is None:
        assert len(order) == len(cells)
    else:
        assert set(search._neighbours(best, ended)) <= set(order)


BASE = {"sweep": "s", "model": {"path": "m"}, "data": {"train": ["t"], "test": "h"}}


def space(search, **grid) -> SearchSpace:
    return decode(SearchSpace, {**BASE, "grid": grid or {"learning_rate": [1e-5], "batch_size": [8]}, "search": search})


def test_the_key_takes_a_word_or_a_section():
    assert space("local").search == SearchConfig(method="local")
    assert space({"method": "local", "budget": 5, "start": {"batch_size": 8}}).search.budget == 5
    assert not decode(SearchSpace, {**BASE, "grid": {"learning_rate": [1e-5]}}).search.is_local


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("locl", "must be one of grid, local"),
        ({"method": "local", "budget": 0}, "search.budget: must be at least 1"),
        ({"budget": 3}, "search.budget: only local search has it"),
        ({"start": {"batch_size": 8}}, "search.start: only local search has it"),
        ({"method": "local", "start": {"batch_sise": 8}}, "search.start.batch_sise: is no axis.*did you mean"),
        ({"method": "local", "start": {"batch_size": 9}}, r"search.start.batch_size: is no value.*one of \[8\]"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_its_key(search, message):
    with pytest.raises(DecodeError, match=message):
        expand(space(search))


def test_a_seed_is_no_axis_to_search_over():
    with pytest.raises(DecodeError, match=r"luckiest seed.*sweeper confirm"):
        expand(space("local", learning_rate=[1e-5], batch_size=[8], seed=[0, 1]))


def test_a_start_of_a_recorded_grid_must_be_one_of_its_axes():
    with pytest.raises(InputError, match="no axis of the grid"):
        LocalSearch(plane(learning_rate=[1e-5]), start={"rate": 1})
