"""A sweep's record, judged again in its own order, gives the same verdicts: nothing else decided them."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

from sweeper.adapters.study import StudyLedger
from sweeper.adapters.yaml_space import load_space
from sweeper.core.errors import InputError
from sweeper.core.hold_back import HoldBack, condemned_by
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.objective import Objective
from sweeper.core.record import TrialInfo
from sweeper.core.space import Cell
from sweeper.judge import Judge
from sweeper.pruners.compose import GUARDS, from_spec
from sweeper.pruners.record import MILESTONE_PREFIX
from sweeper.replay.ledger import NO_NUMBERS
from sweeper.replay.recorded import judge_again

SPACE = """\
sweep: again
model: {path: m}
data: {train: t, test: {new: n}}
train: {batch_size: 8}
grid: {learning_rate: [1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1]}
"""
LONG_SPACE = SPACE.replace("1e-2, 1]", ", ".join(f"{10 ** (k / 2 - 5):.2g}" for k in range(5, 20)) + "]")
ALL = HoldBack(share=1.0, seed=0, exempt=frozenset(GUARDS))


SKIPPING = {"calibrated": {"risk": 0.9, "skip_hopeless": True}}


class ManualClock:
    def now_ms(self) -> int:
        return 0


def measurement(rate: float, milestone: int) -> Measurement:
    """Best at 1e-4 in the end, where it is slowest to begin with; a rate of 1 explodes."""
    loss = 1 + abs(math.log10(rate) + 4) + (4 if rate == 1e-4 else 1) / milestone
    if rate >= 1:
        loss = math.nan if milestone > 2 else 50.0
    first = StepPoint(step=1, samples_seen=8, tokens_seen=80, loss=9.0, grad_norm=2.0, learning_rate=rate, seconds=0.1)
    return Measurement(
        milestone=milestone,
        samples_seen=100 * milestone,
        tokens_seen=1,
        step=milestone,
        warmup_done=milestone > 1,
        train_loss=loss,
        grad_norm=loss / 2,
        scores={"heldout_loss": loss},
        train_s=1.0,
        eval_s=0.0,
        peak_memory_bytes=1,
        is_last=milestone == 10,
        series=(first,),
        extra={"noise_scale": loss},
    )


class Sweep:
    """A live sweep but for its trials: three at a time in a ragged order, and a new driver half-way."""

    def __init__(self, folder: Path, spec: object, hold_back: HoldBack | None) -> None:
        (folder / "space.yaml").write_text(LONG_SPACE if spec is SKIPPING else SPACE)
        self.cells, self.spec, self.hold_back = load_space(folder / "space.yaml")[1], spec, hold_back
        self.storage = optuna.storages.InMemoryStorage()
        for cell in self.cells:
            self.open().add_cell(cell, planned_samples=1000, calibration=cell.index < (8 if spec is SKIPPING else 2))

    def open(self) -> StudyLedger:
        pruner = from_spec(self.spec, direction="minimize")  # type: ignore[arg-type]
        return StudyLedger.open(self.storage, "again", Objective(), pruner=pruner)

    def judge(self) -> Judge:
        return Judge(Objective(), self.open(), (), ManualClock(), self.hold_back)

    def run(self) -> optuna.Study:
        judge, waiting, step = self.judge(), list(range(len(self.cells))), 0
        live: dict[int, int] = {}
        while waiting or live:
            while waiting and len(live) < 3:
                index = waiting.pop(0)
                if judge.admits(info(self.cells[index])):
                    live[index] = 0
                    judge.begin(info(self.cells[index]))
            step += 1
            if step == 9:  # killed and resumed: what runs begins again and meets its old verdicts
                judge = self.judge()
                for index in live:
                    judge.begin(info(self.cells[index]))
                    live[index] = 0
            index = list(live)[step % len(live)]
            live[index] += 1
            if self.goes_on(judge, self.cells[index], live[index]):
                continue
            del live[index]
        return self.open().study

    def goes_on(self, judge: Judge, cell: Cell, milestone: int) -> bool:
        if cell.index == 5 and milestone == 4:
            judge.fail(info(cell), FailCause.CRASH, "the worker died")
            return False
        taken = measurement(cell.axes["learning_rate"], milestone)
        if judge.observe(info(cell), taken).prunes or taken.is_last:
            judge.conclude(info(cell))
            return False
        return True


def info(cell: Cell) -> TrialInfo:
    return TrialInfo(
        fingerprint=cell.fingerprint, name=cell.name, axes=cell.axes, config=cell.config, derived=NO_NUMBERS
    )


def again(sweep: Sweep, study: optuna.Study, spec: object = None):
    return judge_again(
        study, Objective(), from_spec(sweep.spec if spec is None else spec, direction="minimize"), sweep.hold_back
    )


SPECS = ["early_dynamics", "calibrated", "successive_halving", [{"median": {"n_startup_trials": 1}}]]


@pytest.mark.parametrize("hold_back", [None, ALL])
@pytest.mark.parametrize("spec", [*SPECS, SKIPPING], ids=str)
def test_every_verdict_is_the_same(tmp_path, spec, hold_back):
    sweep = Sweep(tmp_path, spec, hold_back)
    study = sweep.run()
    given = again(sweep, study)
    reports = sum(key.startswith(MILESTONE_PREFIX) for trial in study.trials for key in trial.user_attrs)
    before_a_start = [each for each in given if each.milestone == 0]
    assert len(given) == reports + len(before_a_start)
    assert bool(before_a_start) == (spec is SKIPPING)
    assert [each for each in given if not each.same] == []
    assert any(each.recorded.prunes for each in given), "nothing was put to the test"


def test_another_pruner_gives_other_verdicts(tmp_path):
    sweep = Sweep(tmp_path, SPECS[-1], None)
    study = sweep.run()
    assert any(not each.same for each in again(sweep, study, spec=[]))


def test_a_held_back_trial_that_ends_best_suspends_its_rule_also_after_a_resume(tmp_path):
    sweep = Sweep(tmp_path, SPECS[-1], ALL)
    sweep.run()
    ledger = sweep.open()
    cells = {cell.name: cell for cell in ledger.cells()}
    assert cells["lr1e-4"].held_back == "median", "slowest to begin with"
    assert cells["lr1e-4"].state is TrialState.COMPLETE
    assert "lr1e-4, held back from its prune, ended best" in ledger.suspended()["median"]
    assert cells["lr1"].state is TrialState.PRUNED, "a guard ends any trial"
    late = [each for each in again(sweep, ledger.study) if each.trial == "lr0.01"]
    assert any("prunes no longer" in each.recorded.reason for each in late)
    held = [condemned_by(each.recorded) for each in late if condemned_by(each.recorded)]
    assert len(held) < len(late)


def test_a_record_without_an_order_is_refused(tmp_path):
    sweep = Sweep(tmp_path, "median", None)
    study = sweep.run()
    stripped = optuna.create_study(study_name="again", direction="minimize")
    for trial in study.get_trials(deepcopy=True):
        attrs = {key: value for key, value in trial.user_attrs.items() if key != "started_turn"}
        trial.user_attrs = attrs
        stripped.add_trial(trial)
    with pytest.raises(InputError, match="in which order"):
        again(sweep, stripped)
