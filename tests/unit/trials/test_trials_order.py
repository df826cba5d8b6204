"""The stream of samples."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from sweeper.core.config import TrainConfig, TrialConfig
from sweeper.core.decode import decode
from sweeper.core.derive import derive
from trials.data import TokenSet
from trials.order import Order, epoch_order


def test_each_epoch_holds_every_sample_once() -> None:
    assert sorted(epoch_order(0, 100, 0)) == list(range(100))


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(epoch_order(seed, 50, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_the_order_is_fixed_for_all_time() -> None:
    """A changed order would make exported configs train differently."""
    assert epoch_order(0, 8, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


def order_of(files: list[int], batch_size: int = 1, answers: list[int] | None = None, **settings: Any) -> Order:
    count = sum(files)
    counts = np.array(answers or [1] * count, dtype=np.int32)
    tokens = TokenSet(np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(count + 1, np.int64), counts, tuple(files))
    train = {key: settings.pop(key) for key in ("epochs", "seed") if key in settings}
    plain = {
        "model": {"path": "m"},
        "data": {"train": [f"{i}.jsonl" for i in range(len(files))], **settings},
        "train": {"batch_size": batch_size, "learning_rate": 1e-3, **train},
    }
    return Order(decode(TrialConfig, plain), tokens)


def stream(order: Order, count: int, batch_size: int = 1) -> list[int]:
    return [int(i) for step in range(-(-count // batch_size)) for i in order.batch(step, batch_size)]


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64])
def test_batches_are_the_concatenated_epochs_cut_to_exact_size(batch_size: int) -> None:
    wanted = np.concatenate([epoch_order(3, 10, epoch) for epoch in range(20)])
    order = order_of([4, 6], seed=3)
    for step in range(3):
        assert order.batch(step, batch_size).tolist() == wanted[step * batch_size : (step + 1) * batch_size].tolist()


def test_after_whole_epochs_every_sample_was_seen_equally_often() -> None:
    assert set(Counter(stream(order_of([10]), 30, 2)).values()) == {3}


def test_each_phase_makes_all_its_passes_before_the_next_begins() -> None:
    order = order_of([4, 3, 5], strategy="phased", epochs=2)
    seen = stream(order, 24)
    assert [sorted(seen[a:b]) for a, b in ((0, 4), (4, 8))] == [[0, 1, 2, 3]] * 2
    assert [sorted(seen[a:b]) for a, b in ((8, 11), (11, 14))] == [[4, 5, 6]] * 2
    assert [sorted(seen[a:b]) for a, b in ((14, 19), (19, 24))] == [[7, 8, 9, 10, 11]] * 2
    assert seen[:4] != seen[4:8]


def test_a_batch_may_span_two_phases() -> None:
    order = order_of([4, 4], strategy="phased")
    assert [sum(i >= 4 for i in order.batch(step, 3)) for step in range(3)] == [0, 2, 3]


def test_phases_by_answer_length_take_the_shortest_first() -> None:
    answers = [9, 2, 7, 2, 5, 1, 8]
    order = order_of([7], answers=answers, strategy="phased", phase_by="answer_length", phases=3)
    seen = [answers[i] for i in stream(order, 7)]
    assert [sorted(seen[:3]), sorted(seen[3:5]), sorted(seen[5:])] == [[1, 2, 2], [5, 7], [8, 9]]


def test_replay_comes_from_earlier_phases_on_top_of_every_own_sample() -> None:
    order = order_of([30, 20, 40], strategy="phased", replay_share=0.2, epochs=2)
    # 20 / 0.8 = 25 and 40 / 0.8 = 50 samples a pass.
    assert order.samples_per_pass == 30 + 25 + 50
    seen = stream(order, 210, 7)
    replays = []
    for begin, size, first, own in ((0, 30, 0, 30), (60, 25, 30, 20), (110, 50, 50, 40)):
        for taken in (seen[begin : begin + size], seen[begin + size : begin + 2 * size]):
            mine = [i for i in taken if first <= i < first + own]
            rest = [i for i in taken if i < first]
            assert sorted(mine) == list(range(first, first + own))
            assert len(rest) == len(set(rest)) == size - own
            replays.append(tuple(rest))
    assert len(set(replays[2:])) == 4, "every pass draws anew"


@pytest.mark.parametrize("epochs", [0.3, 1, 1.7, 3])
def test_the_phases_end_where_the_derived_numbers_say(epochs: float) -> None:
    """Beyond the planned samples the last batch is filled from another pass of the last phase."""
    order = order_of([10, 21, 9], strategy="phased", replay_share=0.1, epochs=epochs)
    derived = derive(TrainConfig(batch_size=4, learning_rate=1e-3, epochs=epochs), order.samples_per_pass)
    # 21 + 2 and 9 + 1 samples a pass of the later phases.
    assert derived.planned_samples == math.ceil(epochs * 43 - 1e-9)
    assert len(stream(order, derived.total_steps * 4, 4)) == derived.total_steps * 4
    last = stream(order, derived.planned_samples)[math.ceil(epochs * 33 - 1e-9) :]
    assert sum(i >= 31 for i in last) >= len(last) - 2 * math.ceil(epochs)


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    """Otherwise a resumed trial would see other samples."""
    settings: dict[str, Any] = {"strategy": "phased", "replay_share": 0.3, "epochs": 2}
    straight = [order_of([30, 20], **settings).batch(step, 8).tolist() for step in range(12)]
    once = order_of([30, 20], **settings)
    assert [once.batch(step, 8).tolist() for step in reversed(range(12))] == straight[::-1]
