"""Which steps are probed, and what their micro-batches hold."""

from functools import partial

import numpy as np

from sweeper.core.milestones import Milestones
from trials.packing import plan
from trials.probe import Place, place_of, probe_plan

LENGTHS = np.array([9, 1, 2, 8, 3])


def probed(ranks: int, left: int, *, of: int = 64, is_padded: bool = False, max_tokens: int = 100) -> list[list[int]]:
    layout = "padded" if is_padded else "packed"
    planner = partial(plan, max_tokens=max_tokens, ranks=ranks, layout=layout)
    planned = probe_plan(LENGTHS, planner, Place(left=left, of=of), is_padded=is_padded)
    return [sorted(rows.samples.tolist()) for micro_batch in planned or [] for rows in micro_batch]


def test_the_last_steps_before_a_milestone_are_probed() -> None:
    assert [left for left in range(1, 65) if probed(2, left)] == list(range(1, 9))
    assert [left for left in range(1, 65) if probed(2, left, is_padded=True)] == [1, 2]
    assert probed(2, 1, of=1)


def test_a_step_knows_its_place_between_milestones() -> None:
    milestones = Milestones((100, 110, 300))
    places = [place_of(step, batch_size=40, milestones=milestones, total_steps=8) for step in range(8)]
    # The third step passes two milestones at once.
    assert [(place.left, place.of) for place in places] == [
        (3, 3),
        (2, 3),
        (1, 3),
        (5, 5),
        (4, 5),
        (3, 5),
        (2, 5),
        (1, 5),
    ]
    assert [place.is_last for place in places] == [False, False, True] + 4 * [False] + [True]


def test_a_lone_micro_batch_is_cut_into_random_halves_now_and_then() -> None:
    assert probed(1, 2) == [[0, 1], [2, 3, 4]]
    assert not probed(1, 3)


def test_a_lone_sample_is_not_probed() -> None:
    planner = partial(plan, max_tokens=100, ranks=1)
    assert probe_plan(LENGTHS[:1], planner, Place(left=1, of=1), is_padded=False) is None


def test_samples_are_dealt_out_as_they_come() -> None:
    assert probed(2, 1, max_tokens=9, is_padded=True) == [[0], [1], [2], [3], [4], []]
    assert probed(2, 1) == [[0, 4], [1, 2, 3]]
