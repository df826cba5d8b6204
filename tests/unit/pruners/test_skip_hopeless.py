"""``skip_hopeless``: a cell whose configuration alone leaves it too small a chance is never started."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from pruner_cases import new_study, run_trial

from sweeper.core.errors import InputError
from sweeper.core.verdict import Verdict
from sweeper.pruners import CalibratedPruner
from sweeper.pruners.compose import from_spec
from sweeper.pruners.record import SUSPENDED_PREFIX
from sweeper.pruners.sweep_state import SPENT_ATTR
from sweeper.replay.curves import Grid, Point, RecordedTrial
from sweeper.replay.score import regret, saved
from sweeper.replay.simulate import simulate

HOPELESS, PROMISING = 1.0, 0.25
SKIPPING = {"calibrated": {"risk": 0.1, "skip_hopeless": True}}


def end(cell: float) -> float:
    return 1 + 4 * (cell - 0.2) ** 2


def half_done(finished: int = 10, *, sign: float = 1.0, **attrs: object) -> optuna.Study:
    """Return a study with cells finished from 0 on and two that wait: one at the far end, one next to the best."""
    study = new_study("minimize" if sign > 0 else "maximize")
    for cell in np.linspace(0, 1, 13)[:finished]:
        values = [sign * (end(cell) + 0.5 / k) for k in range(1, 11)]
        run_trial(study, {"objective": values}, attrs={"axes": {"x": float(cell)}}, end="complete")
    for cell in (HOPELESS, PROMISING):
        study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"axes": {"x": cell}, **attrs}))
    return study


def skipped(study: optuna.Study, pruner: CalibratedPruner | None = None) -> dict[float, Verdict | None]:
    asked = pruner or from_spec(SKIPPING, direction=study.direction.name.lower())
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return {trial.user_attrs["axes"]["x"]: asked.skip(study, trial) for trial in waiting}


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["minimize", "maximize"])
def test_the_hopeless_cell_is_never_started_and_the_promising_one_is(sign):
    study = half_done(sign=sign)
    found = skipped(study)
    verdict = found[HOPELESS]
    assert found[PROMISING] is None
    assert verdict is not None
    assert (verdict.prunes, verdict.rule, verdict.samples_seen) == (True, "skip_hopeless", 0)
    assert verdict.predicted_final is not None
    assert list(verdict.predicted_final) == sorted(verdict.predicted_final)


def test_it_is_off_unless_asked_for():
    assert skipped(half_done(), CalibratedPruner(risk=0.9)) == {HOPELESS: None, PROMISING: None}


def test_what_it_spends_is_charged_to_the_risk_of_the_sweep():
    study = half_done()
    spent = skipped(study)[HOPELESS].peers["spends"]
    assert 0 < spent <= 0.1
    assert [t.user_attrs[SPENT_ATTR] for t in study.trials if SPENT_ATTR in t.user_attrs] == [spent]
    dear = half_done()
    gone = {"axes": {"x": 0.9}, SPENT_ATTR: 0.0999}
    dear.add_trial(create_trial(state=TrialState.PRUNED, user_attrs=gone, intermediate_values={100: 9.0}))
    assert skipped(dear)[HOPELESS] is None


def test_calibration_cells_and_cells_of_a_young_sweep_are_started():
    assert skipped(half_done(calibration=True))[HOPELESS] is None
    assert skipped(half_done(finished=5))[HOPELESS] is None


def test_a_rule_that_is_believed_no_longer_starts_every_cell():
    study = half_done()
    study.set_user_attr(SUSPENDED_PREFIX + "skip_hopeless", "one ended best")
    assert skipped(study)[HOPELESS] is None


def test_a_cell_that_was_never_started_counts_by_its_configuration_and_not_as_broken():
    """Broken cells are the worst there are and widen what counts as a tie."""
    study = half_done()
    before = skipped(study)[HOPELESS].peers["tie"]
    study._storage.set_trial_state_values(study.trials[-2]._trial_id, TrialState.PRUNED)
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"axes": {"x": 0.99}}))
    assert skipped(study)[0.99].peers["tie"] < 2 * before


def test_a_value_that_is_no_switch_is_refused():
    with pytest.raises(InputError, match="true or false"):
        CalibratedPruner(skip_hopeless="yes")


def test_a_replay_stops_such_cells_at_0_and_counts_their_whole_cost_as_saved():
    """Beyond 0.5 all diverge: after some of those have ended, the others need not be started."""
    cells = np.linspace(0, 1, 25)
    finals = [end(cell) if cell < 0.5 else 1000.0 + cell for cell in cells]
    grid = Grid(
        name="cliff",
        direction="minimize",
        best_counts=False,
        trials=tuple(
            RecordedTrial(
                name=str(row),
                config={"x": float(cell)},
                final=final,
                points=(Point(resource=90, signals={"objective": final}), Point(resource=100, signals={})),
            )
            for row, (cell, final) in enumerate(zip(cells, finals, strict=True))
        ),
    )
    spec = {"calibrated": {"risk": 0.2, "skip_hopeless": True}}
    ending = simulate(grid, from_spec([{"guards": False}, spec], direction="minimize"))
    never = [row for row, stop in enumerate(ending.stopped_at) if stop == 0]
    assert never
    assert all(finals[row] >= 1000 for row in never)
    assert {ending.verdicts[row].rule for row in never} == {"skip_hopeless"}
    assert saved(grid, ending.stopped_at) >= len(never) / 25
    assert regret(grid, ending.stopped_at) == 0
