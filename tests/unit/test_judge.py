"""The judge keeps, decides and tells, in that order, and repeating it changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from sweeper.core.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from sweeper.core.derive import derive
from sweeper.core.hold_back import HoldBack
from sweeper.core.lifecycle import FailCause, TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.objective import Objective
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo
from sweeper.core.verdict import Verdict, proceed, prune
from sweeper.judge import Judge

TRAIN = TrainConfig(batch_size=8, learning_rate=1e-4)
TRIAL = TrialInfo(
    fingerprint="f" * 16,
    name="b8-lr1e-4",
    axes={"batch_size": 8, "learning_rate": 1e-4},
    config=TrialConfig(model=ModelConfig(path="m"), data=DataConfig(train=("t",)), train=TRAIN),
    derived=derive(TRAIN, 80),
)


def measurement(milestone: int, loss: float = 1.0, *, is_last: bool = False, norm: float = 1.0) -> Measurement:
    return Measurement(
        milestone=milestone,
        samples_seen=8 * milestone,
        tokens_seen=80,
        step=milestone,
        warmup_done=True,
        train_loss=loss,
        grad_norm=norm,
        scores={"heldout_loss": loss},
        train_s=1.0,
        eval_s=0.0,
        peak_memory_bytes=1,
        is_last=is_last,
    )


class ListLedger:
    """Keeps everything in a list and prunes from a scripted milestone on."""

    def __init__(self, prune_from: int = 99) -> None:
        self.calls: list[str] = []
        self.verdicts: dict[int, Verdict] = {}
        self.hopeless: Verdict | None = None
        self.finished: tuple[TrialState, float | None] | None = None
        self.condemns_paused = False
        self._prune_from = prune_from
        self._latest = 0

    def start(self, fingerprint: str) -> None:
        self.calls.append("start")

    def record(self, fingerprint: str, measurement: Measurement) -> None:
        self.calls.append(f"record {measurement.milestone}")
        self._latest = measurement.milestone

    def advise(self, fingerprint: str, *, again: bool = False) -> Verdict:
        assert again or self.calls[-1] == f"record {self._latest}", "asked before the measurement was kept"
        self.calls.append("advise again" if again else "advise")
        if self._latest >= self._prune_from or (again and self.condemns_paused):
            return prune("script", "its time has come", 8 * self._latest)
        return proceed("script", "go on", 8 * self._latest)

    def skip(self, fingerprint: str) -> Verdict | None:
        self.calls.append("skip")
        return self.hopeless

    def verdict_at(self, fingerprint: str, milestone: int) -> Verdict | None:
        return self.verdicts.get(milestone)

    def pause(self, fingerprint: str, asked_after: int) -> None: ...

    def keep_verdict(self, fingerprint: str, milestone: int, verdict: Verdict, *, again: bool = False) -> None:
        assert milestone not in self.verdicts or self.calls[-1] == "advise again", "a verdict was given twice"
        self.verdicts[milestone] = verdict

    def finish(
        self,
        fingerprint: str,
        state: TrialState,
        *,
        objective: float | None = None,
        cause: FailCause | None = None,
        detail: str = "",
    ) -> None:
        assert self.finished is None
        self.finished = state, objective


class DictTracker:
    """Remembers what it was told last."""

    def __init__(self) -> None:
        self.measured_at: list[tuple[int, Verdict, int]] = []
        self.closed: tuple[TrialState, Verdict | None, str] | None = None

    def open_sweep(self, sweep: SweepInfo) -> None: ...

    def open_trial(self, trial: TrialInfo) -> None: ...

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict, wall_time_ms: int) -> None:
        self.measured_at.append((measurement.milestone, verdict, wall_time_ms))

    def pause_trial(self, trial: TrialInfo) -> None: ...

    def close_trial(
        self,
        trial: TrialInfo,
        state: TrialState,
        verdict: Verdict | None,
        final: Mapping[str, float],
        detail: str = "",
    ) -> None:
        self.closed = state, verdict, detail

    def close_sweep(self, summary: SweepSummary) -> None: ...

    def flush(self) -> None: ...


class ManualClock:
    def now_ms(self) -> int:
        return 1000


def judge(ledger: ListLedger, tracker: DictTracker) -> Judge:
    return Judge(Objective(), ledger, [tracker], ManualClock())


def test_the_same_numbers_are_kept_judged_and_told() -> None:
    ledger, tracker = ListLedger(prune_from=2), DictTracker()
    court = judge(ledger, tracker)
    court.begin(TRIAL)
    assert not court.observe(TRIAL, measurement(1)).prunes
    assert court.observe(TRIAL, measurement(2)).prunes
    assert court.conclude(TRIAL) is TrialState.PRUNED
    assert ledger.calls == ["start", "record 1", "advise", "record 2", "advise"]
    assert [(at, told.prunes, ms) for at, told, ms in tracker.measured_at] == [(1, False, 1000), (2, True, 1000)]
    assert tracker.closed is not None
    assert tracker.closed[0] is TrialState.PRUNED


def test_a_hopeless_cell_ends_before_it_begins_and_any_other_is_admitted() -> None:
    ledger, tracker = ListLedger(), DictTracker()
    assert judge(ledger, tracker).admits(TRIAL)
    assert (ledger.finished, ledger.verdicts, tracker.closed) == (None, {}, None)
    ledger.hopeless = prune("skip_hopeless", "never started", 0)
    assert not judge(ledger, tracker).admits(TRIAL)
    assert ledger.verdicts == {0: ledger.hopeless}
    assert ledger.finished == (TrialState.PRUNED, None)
    assert tracker.closed == (TrialState.PRUNED, ledger.hopeless, "")


def test_a_hopeless_cell_that_is_held_back_runs_and_is_not_asked_about_again() -> None:
    ledger, tracker = ListLedger(), DictTracker()
    ledger.hopeless = prune("skip_hopeless", "never started", 0)
    court = Judge(Objective(), ledger, [tracker], ManualClock(), HoldBack(share=1.0, seed=0, exempt=frozenset()))
    assert court.admits(TRIAL)
    assert court.admits(TRIAL)
    assert ledger.calls.count("skip") == 1
    assert ledger.verdicts[0].rule == "held_back:skip_hopeless"
    assert ledger.finished is None


def test_a_crash_between_the_verdict_and_the_end_of_a_hopeless_cell_is_made_good() -> None:
    ledger, tracker = ListLedger(), DictTracker()
    ledger.verdicts[0] = prune("skip_hopeless", "never started", 0)
    assert not judge(ledger, tracker).admits(TRIAL)
    assert ledger.finished == (TrialState.PRUNED, None)


def test_a_milestone_met_again_gets_its_old_verdict() -> None:
    ledger = ListLedger()
    first = judge(ledger, DictTracker()).observe(TRIAL, measurement(1))
    ledger._prune_from = 1
    assert judge(ledger, DictTracker()).observe(TRIAL, measurement(1)) == first


def test_a_paused_trial_that_is_condemned_later_ends_by_the_later_verdict() -> None:
    ledger, tracker = ListLedger(), DictTracker()
    court = judge(ledger, tracker)
    first = court.observe(TRIAL, measurement(1))
    assert court.reconsider(TRIAL) == first
    assert ledger.verdicts == {1: first}
    ledger.condemns_paused = True
    later = court.reconsider(TRIAL)
    assert later.prunes
    assert ledger.verdicts == {1: later}
    assert court.conclude(TRIAL) is TrialState.PRUNED
    assert tracker.closed is not None
    assert tracker.closed[1] == later


def test_a_trial_that_reached_its_end_is_complete_whatever_the_pruner_thinks() -> None:
    ledger, tracker = ListLedger(prune_from=1), DictTracker()
    court = judge(ledger, tracker)
    assert not court.observe(TRIAL, measurement(1, loss=0.5, is_last=True)).prunes
    assert court.conclude(TRIAL) is TrialState.COMPLETE
    assert ledger.finished == (TrialState.COMPLETE, 0.5)


@pytest.mark.parametrize("broken", [{"loss": math.nan}, {"loss": math.inf}, {"norm": math.nan}])
def test_an_end_with_non_finite_numbers_goes_before_the_guards(broken: dict[str, float]) -> None:
    ledger = ListLedger(prune_from=1)
    court = judge(ledger, DictTracker())
    assert court.observe(TRIAL, measurement(1, is_last=True, **broken)).prunes


def test_without_guards_an_end_without_an_objective_is_still_no_result() -> None:
    court = judge(ListLedger(), DictTracker())
    verdict = court.observe(TRIAL, measurement(1, loss=math.nan, is_last=True))
    assert verdict.prunes
    assert verdict.rule == "no_objective"


def test_a_failure_is_kept_with_its_cause() -> None:
    ledger, tracker = ListLedger(), DictTracker()
    judge(ledger, tracker).fail(TRIAL, FailCause.CRASH, "the worker died")
    assert ledger.finished == (TrialState.FAIL, None)
    assert tracker.closed == (TrialState.FAIL, None, "crash: the worker died")
