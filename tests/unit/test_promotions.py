"""Mode promote without Ray, on a real study and a real judge: the decisions of a replay, and after a crash the same."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from sweeper.adapters.study import StudyLedger
from sweeper.core.decode import decode
from sweeper.core.derive import derive
from sweeper.core.errors import InputError
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.milestones import Milestones
from sweeper.core.record import TrialInfo
from sweeper.core.space import Cell, SearchSpace, expand
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.judge import Judge
from sweeper.promotions import Promotions, first_rung
from sweeper.pruners.base import VerdictPruner
from sweeper.pruners.compose import from_spec
from sweeper.replay.curves import Grid, Point, RecordedTrial
from sweeper.replay.promoted import PauseCosts, PromotedSweep
from sweeper.replay.recorded import judge_again

COUNT, EVERY = 10, 64
SPACE = {
    "sweep": "promoted",
    "model": {"path": "m"},
    "data": {"train": ["t"], "test": "n"},
    "mode": "promote",
    "pruner": ["median"],
    "grid": {"learning_rate": [1e-5, 1e-4, 1e-3, 1e-2], "batch_size": [8, 16, 32]},
}


def loss(axes: Any, place: int) -> float:
    """High rates lead early, low ones win late."""
    speed, floor = axes["learning_rate"] * 1e4, 1 + abs(math.log10(axes["learning_rate"]) + 4)
    return floor + axes["batch_size"] / 100 + 4 * math.exp(-place * (0.3 + 0.2 * math.log10(speed + 1)))


class Sweep:
    """A sweep on one gang; ``strike`` is called after each event and may let the process die there."""

    def __init__(
        self, strike: Callable[[Sweep, str], None] = lambda sweep, event: None, rule: VerdictPruner | None = None
    ) -> None:
        self._rule = rule
        self.space = decode(SearchSpace, SPACE)
        self.cells = expand(self.space)
        self.storage = optuna.storages.InMemoryStorage()
        self._strike = strike
        self.reopen()

    def reopen(self) -> None:
        rule = self._rule or from_spec(self.space.pruner, direction="minimize")
        self.ledger = StudyLedger.open(self.storage, "s", self.space.objective, pruner=rule, grid=self.space.grid)
        for cell in self.cells:
            self.ledger.add_cell(cell, planned_samples=COUNT * EVERY, calibration=False)
        self.judge = Judge(self.space.objective, self.ledger, (), self)
        self.infos = {cell.fingerprint: info(cell) for cell in self.cells}
        milestones = dict.fromkeys(self.infos, Milestones.even(COUNT * EVERY, COUNT))
        self.promotions = Promotions(self.ledger, self.infos, self.space, [], self.judge, milestones)

    def now_ms(self) -> int:
        return 0

    def run(self) -> list[tuple[str, int]]:
        """Run to the end; return the reports in their order."""
        steps: list[tuple[str, int]] = []
        while isinstance(trial := self.promotions(), TrialInfo):
            self.judge.begin(trial)
            place = self.ledger.cell(trial.fingerprint).samples_seen // EVERY
            while place < COUNT:
                place += 1
                verdict = self.judge.observe(trial, measurement(loss(trial.axes, place), place))
                steps.append((trial.name, place * EVERY))
                if verdict.prunes or place == COUNT:
                    self.judge.conclude(trial)
                    self.promotions.ended(trial)
                    self._strike(self, "end")
                    break
                if not self.promotions.goes_on(trial, place * EVERY):
                    self.promotions.paused(trial)
                    self._strike(self, "pause")
                    break
                promotions = self.promotions
                self._strike(self, "report")
                if promotions is not self.promotions:
                    break
        return steps

    def ends(self) -> dict[str, tuple[TrialState, int]]:
        return {cell.name: (cell.state, cell.samples_seen) for cell in self.ledger.cells()}


def info(cell: Cell) -> TrialInfo:
    return TrialInfo(
        fingerprint=cell.fingerprint,
        name=cell.name,
        axes=cell.axes,
        config=cell.config,
        derived=derive(cell.config.train, COUNT * EVERY),
    )


def measurement(value: float, place: int) -> Measurement:
    point = StepPoint(
        step=place, samples_seen=0, tokens_seen=0, loss=value, grad_norm=1.0, learning_rate=1.0, seconds=1.0
    )
    return Measurement(
        milestone=place,
        samples_seen=place * EVERY,
        tokens_seen=place,
        step=place,
        warmup_done=True,
        train_loss=value,
        grad_norm=1.0,
        scores={"heldout_loss": value},
        train_s=1.0,
        eval_s=0.0,
        peak_memory_bytes=0,
        is_last=place == COUNT,
        series=(point,),
    )


class Traced(PromotedSweep):
    """A replay that writes its reports down."""

    def __init__(self, grid: Grid) -> None:
        pruner = from_spec(SPACE["pruner"], direction="minimize")
        super().__init__(grid, pruner, seed=0, costs=PauseCosts(), start="centre")
        self.steps: list[tuple[str, int]] = []

    def _go_on(self, index: int, place: int, samples_seen: int) -> None:
        self.steps.append((self._grid.trials[index].name, samples_seen))
        super()._go_on(index, place, samples_seen)

    def _end(self, index: int, samples_seen: int, verdict: Verdict) -> None:
        if samples_seen > self._samples(index):
            self.steps.append((self._grid.trials[index].name, samples_seen))
        super()._end(index, samples_seen, verdict)


def replayed() -> tuple[list[tuple[str, int]], dict[str, int]]:
    """Return the reports of a replay of the same sweep, and at how many samples each trial ended."""
    trials = []
    for cell in expand(decode(SearchSpace, SPACE)):
        values = [loss(cell.axes, place) for place in range(1, COUNT + 1)]
        points = tuple(
            Point(
                resource=EVERY * (place + 1),
                signals={"objective": value, "train_loss": value, "grad_norm": 1.0},
                first_loss=value,
            )
            for place, value in enumerate(values)
        )
        trials.append(RecordedTrial(name=cell.name, config=cell.axes, final=values[-1], points=points))
    grid = Grid(name="s", direction="minimize", best_counts=False, trials=tuple(trials))
    sweep = Traced(grid)
    stopped_at = sweep.run(1).stopped_at
    ends = zip(grid.trials, stopped_at, strict=True)
    return sweep.steps, {trial.name: COUNT * EVERY if stop is None else stop for trial, stop in ends}


def test_a_live_sweep_decides_as_its_replay_does() -> None:
    steps, ends = replayed()
    sweep = Sweep()
    assert sweep.run() == steps
    assert {name: samples for name, (_, samples) in sweep.ends().items()} == ends
    states = {state for state, _ in sweep.ends().values()}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(steps) > len({name for name, _ in steps}), "trials went on"


@pytest.mark.parametrize("event", ["report", "pause", "end"])
def test_a_process_that_dies_after_any_event_is_followed_by_one_that_decides_the_same(event: str) -> None:
    whole, died = Sweep(), 0

    def strike(sweep: Sweep, at: str) -> None:
        nonlocal died
        if at == event:
            died += 1
            sweep.reopen()

    struck = Sweep(strike)
    assert struck.run() == whole.run()
    assert struck.ends() == whole.ends()
    assert died > 3


class Remembering(VerdictPruner):
    """Ends nothing, and writes down about which paused trials it is asked again."""

    rule = "remembering"

    def __init__(self) -> None:
        self.asked_again: list[tuple[int, int]] = []

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        return proceed(self.rule, "go on", trial.last_step or 0)

    def reconsider(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        self.asked_again.append((trial.number, trial.last_step or 0))
        return self.verdict(study, trial)


def test_the_pruner_is_asked_again_as_often_as_without_a_crash() -> None:
    whole, struck = Remembering(), Remembering()
    Sweep(rule=whole).run()
    Sweep(lambda sweep, event: sweep.reopen() if event == "pause" else None, struck).run()
    assert struck.asked_again == whole.asked_again != []


def test_every_verdict_of_the_record_is_given_again_those_on_paused_trials_too() -> None:
    sweep = Sweep()
    sweep.run()
    given = judge_again(sweep.ledger.study, sweep.space.objective, from_spec(sweep.space.pruner, direction="minimize"))
    assert given
    assert all(each.same for each in given)
    resting = [key for key, value in _attrs(sweep) if key.startswith("verdict:") and value.get("again")]
    assert resting, "at least one was condemned as it rested"


def _attrs(sweep: Sweep) -> list[tuple[str, Any]]:
    return [item for trial in sweep.ledger.study.get_trials() for item in trial.user_attrs.items()]


def test_a_paused_trial_that_its_user_ended_or_that_failed_is_not_handed_out_again() -> None:
    dismissed: list[str] = []

    def strike(sweep: Sweep, at: str) -> None:
        paused = list(sweep.ledger.paused())
        if at == "pause" and len(paused) == 3 and not dismissed:
            dismissed.extend(paused[:2])
            sweep.ledger.dismiss(paused[0], prune("user", "ended by the user", EVERY))
            sweep.judge.fail(sweep.infos[paused[1]], FailCause.CRASH, "gone")

    sweep = Sweep(strike)
    steps = sweep.run()
    for fingerprint in dismissed:
        cell = sweep.ledger.cell(fingerprint)
        assert [samples for name, samples in steps if name == cell.name] == [EVERY]
        assert cell.state in (TrialState.PRUNED, TrialState.FAIL)


def test_a_cell_that_waits_is_promised_to_one_gang_only() -> None:
    """Two trials come to their rungs before either gang has asked for the next."""
    sweep = Sweep()
    first, second = sweep.promotions(), None
    assert isinstance(first, TrialInfo)
    sweep.judge.begin(first)
    second = sweep.promotions()
    assert isinstance(second, TrialInfo)
    sweep.judge.begin(second)
    for trial in (first, second):
        sweep.judge.observe(trial, measurement(1.0, 1))
        assert not sweep.promotions.goes_on(trial, EVERY)
        sweep.promotions.paused(trial)
    taken = []
    for _ in range(2):
        trial = sweep.promotions()
        assert isinstance(trial, TrialInfo)
        sweep.judge.begin(trial)
        taken.append(trial.name)
    assert len({first.name, second.name, *taken}) == 4


def test_the_first_rung_lies_at_or_past_every_first_measurement() -> None:
    trials = [info(cell) for cell in expand(decode(SearchSpace, SPACE))]
    assert first_rung(trials, dict.fromkeys((t.fingerprint for t in trials), Milestones((10, 640)))) == 32
    assert first_rung(trials, dict.fromkeys((t.fingerprint for t in trials), Milestones((40, 640)))) == 64
    assert first_rung(trials, dict.fromkeys((t.fingerprint for t in trials), Milestones((1, 640)))) == 32


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"eval": {"milestones": 1}}, "a trial is paused between milestones, and has one"),
        ({"eval": {"metrics": [], "final_metrics": ["heldout_loss"]}}, "is not measured before a trial's end"),
        ({"search": "local"}, "local search has an order of its own"),
        ({"trial": {"command": "python t.py", "train_samples": 9}}, "a trainer of your own cannot be paused"),
        ({"mode": "pause"}, "mode"),
        ({"resources": {"paused_disk_gib": -1}}, "must be at least 0"),
        ({"resources": {"paused_memory_gib": math.nan}}, "must be at least 0"),
    ],
)
def test_what_cannot_be_promoted_is_refused(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        decode(SearchSpace, SPACE | changes)


def test_there_are_no_calibration_cells() -> None:
    assert decode(SearchSpace, SPACE).calibration == 0
    assert decode(SearchSpace, SPACE | {"mode": "stop"}).calibration == 4


def mixed_sweep() -> Sweep:
    """Cells of one and of four ranks."""
    sweep = Sweep()
    sweep.space = decode(
        SearchSpace,
        SPACE | {"grid": {"ranks": [1, 4], "learning_rate": [1e-4, 1e-3, 1e-2]}, "train": {"batch_size": 8}},
    )
    sweep.cells = expand(sweep.space)
    sweep.storage = optuna.storages.InMemoryStorage()
    sweep.reopen()
    return sweep


def test_what_a_gang_was_given_away_for_waits_for_room_and_others_of_another_size_go_on() -> None:
    sweep = mixed_sweep()
    first = sweep.promotions(1)
    assert isinstance(first, TrialInfo)
    sweep.judge.begin(first)
    sweep.judge.observe(first, measurement(1.0, 1))
    assert not sweep.promotions.goes_on(first, EVERY)
    sweep.promotions.paused(first)
    assert [each.ranks for each in sweep.promotions.demands()] == [4, 1], "the order arrived at one of four ranks"
    small = sweep.promotions(1)
    assert isinstance(small, TrialInfo)
    assert small.config.train.ranks == 1
    large = sweep.promotions(4)
    assert isinstance(large, TrialInfo)
    assert large.config.train.ranks == 4


@pytest.mark.parametrize("seed", range(3))
def test_whichever_size_has_room_every_cell_ends_once(seed: int) -> None:
    sweep, rng = mixed_sweep(), random.Random(seed)
    places = dict.fromkeys((cell.fingerprint for cell in sweep.cells), 0)
    running: list[TrialInfo] = []
    while True:
        chosen = sweep.promotions(rng.choice([1, 4]))
        if isinstance(chosen, TrialInfo):
            sweep.judge.begin(chosen)
            running.append(chosen)
        if chosen is None and not running:
            break
        if running and (len(running) == 3 or rng.random() < 0.5):
            trial = running.pop(rng.randrange(len(running)))
            places[trial.fingerprint] += 1
            place = places[trial.fingerprint]
            verdict = sweep.judge.observe(trial, measurement(loss(trial.axes | {"batch_size": 8}, place), place))
            if verdict.prunes or place == COUNT:
                sweep.judge.conclude(trial)
                sweep.promotions.ended(trial)
            elif sweep.promotions.goes_on(trial, place * EVERY):
                running.append(trial)
            else:
                sweep.promotions.paused(trial)
    assert all(state.is_final for state, _ in sweep.ends().values())
    assert {name: samples // EVERY for name, (_, samples) in sweep.ends().items()} == {
        cell.name: places[cell.fingerprint] for cell in sweep.cells
    }
