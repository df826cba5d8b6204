"""What every pruner of ours adds to an Optuna pruner: an answer with a reason."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from sweeper.core.errors import InputError
from sweeper.core.verdict import Verdict


class VerdictPruner(BasePruner, abc.ABC):
    """An Optuna pruner that can say why.

    A verdict rests on what the study holds at the time of asking and on nothing else: asked again with the same
    record, it answers the same.
    """

    rule: ClassVar[str]
    """The name that its verdicts carry and that the YAML uses."""

    @abc.abstractmethod
    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial at its latest report; must not change ``trial``."""

    def skip(self, study: optuna.Study, trial: FrozenTrial) -> Verdict | None:
        """Return the verdict by which this waiting trial is never started, or None where it is to run."""
        return None

    def reconsider(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge a paused trial once more at its latest report, on the strength of what the others did since."""
        return self.verdict(study, trial)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should end here, as Optuna asks it."""
        return self.verdict(study, trial).prunes


def require(name: str, value: object, allowed: Callable[[], bool], rule: str) -> None:
    """Refuse a constructor argument that breaks its rule; a value of a wrong type breaks it too.

    Raises:
        InputError: names the argument, the rule and the value.
    """
    try:
        ok = not isinstance(value, bool) and allowed()
    except TypeError:
        ok = False
    if not ok:
        raise InputError(rule, where=name, got=value)


def minimizes(study: optuna.Study) -> bool:
    """Return whether a smaller objective is better in this study."""
    return study.direction != optuna.study.StudyDirection.MAXIMIZE
