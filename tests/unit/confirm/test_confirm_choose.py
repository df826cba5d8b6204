"""Which cells are run again with which seeds, on a real study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from sweeper.adapters.study import StudyLedger
from sweeper.confirm.choose import choose, enter, entered
from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.errors import InputError
from sweeper.core.lifecycle import TrialState
from sweeper.core.milestones import Milestones
from sweeper.core.record import SweepInfo, SweepSummary, TrialRow, summarise
from sweeper.core.space import SearchSpace, expand
from sweeper.planned import facts_key

PLAIN: Mapping[str, Any] = {
    "sweep": "s",
    "model": {"path": "builtin:quickstart"},
    "data": {"train": ["builtin:quickstart/train"], "test": {"new": "builtin:quickstart/new"}},
}
FINALS = {"b16-lr1e-4": 1.0, "b16-lr1e-3": 2.0, "b64-lr1e-4": 1.1, "b64-lr1e-3": 3.0}


class Sweep:
    """A study whose cells have ended with the given objectives; None leaves one waiting."""

    def __init__(self, grid: Mapping[str, Any], finals: Mapping[str, float | None]) -> None:
        self.space = decode(SearchSpace, {**PLAIN, "grid": grid})
        self.ledger = StudyLedger.open(InMemoryStorage(), "s", self.space.objective, grid=self.space.grid)
        cells = expand(self.space)
        self.facts = {facts_key(cells[0].config): {"train_samples": 1024, "longest_tokens": 12}}
        for cell in cells:
            self.ledger.add_cell(cell, planned_samples=1024, calibration=False)
            value = finals[cell.name]
            if value is not None:
                self.ledger.start(cell.fingerprint)
                self.ledger.finish(cell.fingerprint, TrialState.COMPLETE, objective=value)

    def summary(self) -> SweepSummary:
        rows = [
            TrialRow(
                fingerprint=cell.fingerprint,
                name=cell.name,
                axes=cell.axes,
                state=cell.state.value,
                objective=cell.objective,
                replicate_of=cell.replicate_of,
                seed=cell.seed,
            )
            for cell in self.ledger.cells()
        ]
        info = SweepInfo(
            name="s",
            objective="heldout_loss",
            direction="minimize",
            milestones=Milestones.even(1024, 2),
            space_yaml="",
            folder="/s",
        )
        return summarise(info, rows, elapsed_s=1.0)

    def choose(self, top: int, seeds: int) -> list[tuple[str, int]]:
        found = choose(self.summary(), self.ledger, self.facts, top=top, seeds=seeds)
        enter(self.ledger, found)
        return [(each.cell.name, each.cell.config.train.seed) for each in found]


def plain_sweep(**changed: float | None) -> Sweep:
    return Sweep({"batch_size": [16, 64], "learning_rate": [1e-4, 1e-3]}, {**FINALS, **changed})


def test_all_leaders_run_with_each_fresh_seed_one_seed_after_the_other() -> None:
    sweep = plain_sweep()
    assert sweep.choose(top=2, seeds=2) == [
        ("b16-lr1e-4-s1", 1),
        ("b64-lr1e-4-s1", 1),
        ("b16-lr1e-4-s2", 2),
        ("b64-lr1e-4-s2", 2),
    ]


def test_asked_again_for_more_it_adds_only_what_is_new_whatever_came_out() -> None:
    sweep = plain_sweep()
    first = sweep.choose(top=2, seeds=2)
    for cell in entered(sweep.ledger, sweep.facts):
        sweep.ledger.start(cell.cell.fingerprint)
        # With fresh seeds the second turns out to be first.
        value = 9.0 if cell.cell.name.startswith("b16") else 0.5
        sweep.ledger.finish(cell.cell.fingerprint, TrialState.COMPLETE, objective=value)
    assert sweep.choose(top=2, seeds=3)[:4] == first
    assert sweep.choose(top=3, seeds=2)[2] == ("b16-lr1e-3-s1", 1)
    assert len(entered(sweep.ledger, sweep.facts)) == 2 * 3 + 2


def test_a_fresh_run_differs_from_its_leader_in_the_seed_alone() -> None:
    sweep = plain_sweep()
    sweep.choose(top=2, seeds=2)
    leader = sweep.summary().rows[0]
    fresh = next(each for each in entered(sweep.ledger, sweep.facts) if each.cell.name == "b16-lr1e-4-s2")
    assert (fresh.replicate_of, fresh.cell.axes) == (leader.fingerprint, leader.axes)
    own = sweep.ledger.config(leader.fingerprint)
    assert fresh.cell.config == decode(TrialConfig, {**own, "train": {**own["train"], "seed": 2}})


def test_seeds_of_the_grid_are_not_fresh() -> None:
    finals = {f"b{batch}-lr1e-4-s{seed}": batch / 10 + seed for batch in (16, 64) for seed in (0, 2)}
    sweep = Sweep({"batch_size": [16, 64], "learning_rate": [1e-4], "seed": [0, 2]}, finals)
    names = [name for name, _ in sweep.choose(top=2, seeds=2)]
    assert names == ["b16-lr1e-4-s1", "b64-lr1e-4-s1", "b16-lr1e-4-s3", "b64-lr1e-4-s3"]
    assert entered(sweep.ledger, sweep.facts)[0].cell.axes == {"batch_size": 16, "learning_rate": 1e-4, "seed": 1}


@pytest.mark.parametrize(
    ("top", "seeds", "changed", "rule"),
    [
        (1, 3, {}, "--top: must be at least 2"),
        (2, 1, {}, "--seeds: must be at least 2"),
        (2, 2, {"b64-lr1e-3": None}, "1 cells have not ended"),
    ],
)
def test_what_cannot_be_asked_is_refused(top: int, seeds: int, changed: dict[str, float | None], rule: str) -> None:
    sweep = plain_sweep(**changed)
    with pytest.raises(InputError, match=rule):
        sweep.choose(top, seeds)
    assert not entered(sweep.ledger, sweep.facts)
