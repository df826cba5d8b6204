"""Pruners by name: what a search space's ``pruner`` key may hold, and how the parts are put together."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.trial import FrozenTrial

from sweeper.core.decode import nearest
from sweeper.core.errors import InputError
from sweeper.core.verdict import Verdict, proceed
from sweeper.pruners.aligned import SampleAligned
from sweeper.pruners.base import VerdictPruner, minimizes
from sweeper.pruners.calibrated import CalibratedPruner
from sweeper.pruners.early_dynamics import EarlyDynamicsPruner
from sweeper.pruners.guards import DivergenceGuard, NonFiniteGuard
from sweeper.pruners.history import remembered
from sweeper.pruners.record import suspended
from sweeper.pruners.stall import StallPruner

Spec = str | Mapping[str, Any]

GUARDS: Final[Mapping[str, Callable[..., VerdictPruner]]] = {
    NonFiniteGuard.rule: NonFiniteGuard,
    DivergenceGuard.rule: DivergenceGuard,
}
OURS: Final[Mapping[str, Callable[..., VerdictPruner]]] = {
    CalibratedPruner.rule: CalibratedPruner,
    EarlyDynamicsPruner.rule: EarlyDynamicsPruner,
    StallPruner.rule: StallPruner,
}
STOCK: Final[Mapping[str, Callable[..., BasePruner]]] = {
    "hyperband": HyperbandPruner,
    "median": MedianPruner,
    "nop": NopPruner,
    "patient": PatientPruner,
    "percentile": PercentilePruner,
    "successive_halving": SuccessiveHalvingPruner,
    "threshold": ThresholdPruner,
    "wilcoxon": WilcoxonPruner,
}
"""Optuna's own by our names; the parameters are Optuna's, steps being sample counts. ``patient`` takes the pruner it
wraps under ``around``."""
GUARDS_KEY: Final = "guards"


class FirstOf(VerdictPruner):
    """Ask several pruners in order; the first that ends the trial is the answer, else the last one's CONTINUE.

    A rule that the study calls suspended ends nothing (see ``sweeper.core.hold_back``).
    """

    rule = "first_of"

    def __init__(self, pruners: Sequence[BasePruner], *, direction: str | None = None) -> None:
        """Keep the pruners; a stock one is wrapped into ``SampleAligned``.

        Args:
            pruners: at least one, guards first.
            direction: ``minimize`` or ``maximize``: refuse to judge a study of the other direction. None: any study.
        """
        if not pruners:
            raise InputError("needs at least one pruner", where="pruners", got=list(pruners))
        if direction not in (None, "minimize", "maximize"):
            raise InputError("must be minimize or maximize", where="direction", got=direction)
        self.pruners = tuple(p if isinstance(p, VerdictPruner) else SampleAligned(p) for p in pruners)
        self.direction = direction

    def verdict(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial at its latest report.

        Raises:
            InputError: the study's direction is not the one that was composed for.
        """
        return self._first(study, trial, lambda pruner: pruner.verdict(study, trial))

    def reconsider(self, study: optuna.Study, trial: FrozenTrial) -> Verdict:
        """Judge a paused trial once more; see ``VerdictPruner.reconsider``."""
        return self._first(study, trial, lambda pruner: pruner.reconsider(study, trial))

    def _first(self, study: optuna.Study, trial: FrozenTrial, ask: Callable[[VerdictPruner], Verdict]) -> Verdict:
        if self.direction is not None and (self.direction == "minimize") != minimizes(study):
            raise InputError("composed for the other direction", where="direction", got=study.direction.name)
        verdict = proceed(self.rule, "no pruner spoke", remembered(study, trial).samples_seen)
        for pruner in self.pruners:
            verdict = ask(pruner)
            if verdict.prunes:
                doubt = suspended(study, verdict.rule)
                if doubt is None:
                    return verdict
                verdict = proceed(verdict.rule, f"prunes no longer, for {doubt}", verdict.samples_seen)
        return verdict

    def skip(self, study: optuna.Study, trial: FrozenTrial) -> Verdict | None:
        """Return the first verdict by which this waiting trial is never started, or None where it is to run."""
        for pruner in self.pruners:
            verdict = pruner.skip(study, trial)
            if verdict is not None and suspended(study, verdict.rule) is None:
                return verdict
        return None


def from_spec(specs: Spec | Sequence[Spec], *, direction: str) -> FirstOf:
    """Return the pruner that a search space's ``pruner`` key describes.

    Each item is a name or ``{name: {parameter: value}}``; the first item that ends a trial decides. The guards
    ``non_finite`` and ``divergence`` always come first with their defaults; naming one sets its parameters instead,
    and the item ``{guards: false}`` (``off`` in YAML) leaves out those that are not named.

    Raises:
        InputError: an unknown name or parameter, with the nearest valid one, or a value that its pruner refuses.
    """
    items = [_item(spec, f"pruner.{index}") for index, spec in enumerate(_as_list(specs))]
    unguarded = any(name == GUARDS_KEY and not _switch(value, where) for name, value, where in items)
    named = {name: _build(name, value, where) for name, value, where in items if name in GUARDS}
    guards = [named.get(name) or (None if unguarded else make()) for name, make in GUARDS.items()]
    others = [_build(name, value, where) for name, value, where in items if name not in (*GUARDS, GUARDS_KEY)]
    pruners = [pruner for pruner in (*guards, *others) if pruner is not None]
    return FirstOf(pruners or [NopPruner()], direction=direction)


def known_pruners() -> dict[str, Callable[..., BasePruner]]:
    """Return every name that the ``pruner`` key knows, guards first, with what it builds."""
    return {**GUARDS, **OURS, **STOCK}


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters a pruner takes in YAML, by name."""
    found = dict(inspect.signature(known_pruners()[name]).parameters)
    if name == "patient":
        found["around"] = found.pop("wrapped_pruner").replace(name="around", default=None)
    return found


def _as_list(specs: Spec | Sequence[Spec]) -> list[Any]:
    return [specs] if isinstance(specs, (str, Mapping)) else list(specs)


def _item(spec: Any, where: str) -> tuple[str, Any, str]:
    if isinstance(spec, str):
        spec = {spec: {}}
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise InputError("must be a name or one name with its parameters", where=where, got=spec)
    name, value = next(iter(spec.items()))
    # YAML reads `{guards: off}` with a text key, yet a stray `off: {}` with a false one.
    return str(name), value, where


def _switch(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError("must be on or off", where=f"{where}.{GUARDS_KEY}", got=value)
    return value


def _build(name: str, value: Any, where: str) -> VerdictPruner:
    made = _construct(name, value, where)
    return made if isinstance(made, VerdictPruner) else SampleAligned(made, rule=name)


def _construct(name: str, value: Any, where: str) -> BasePruner:
    makers = known_pruners()
    if name not in makers:
        raise InputError("unknown pruner", where=where, got=name, mend=nearest(name, [*makers, GUARDS_KEY]))
    arguments = {} if value is None else value
    if not isinstance(arguments, Mapping):
        raise InputError("parameters must be a mapping of names to values", where=f"{where}.{name}", got=value)
    allowed = parameters_of(name)
    for key in arguments:
        if key not in allowed:
            raise InputError("unknown parameter", where=f"{where}.{name}", got=key, mend=nearest(str(key), allowed))
    for key, parameter in allowed.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            raise InputError(f"parameter {key!r} is required", where=f"{where}.{name}", got=sorted(arguments))
    return _call(makers[name], name, dict(arguments), f"{where}.{name}")


def _call(maker: Callable[..., BasePruner], name: str, arguments: dict[str, Any], where: str) -> BasePruner:
    if name == "patient":
        around = arguments.pop("around", None)
        inner = None if around is None else _construct(*_item(around, f"{where}.around"))
        # Bare inside: the outer wrapper aligns the study for both.
        arguments["wrapped_pruner"] = inner.pruner if isinstance(inner, SampleAligned) else inner
    for key, value in arguments.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError("must be finite", where=f"{where}.{key}", got=value)
    try:
        with warnings.catch_warnings():
            # PatientPruner is marked experimental in Optuna 5: its users chose it by name.
            warnings.simplefilter("ignore")
            return maker(**arguments)
    except InputError as error:
        raise error.at(f"{where}.{error.where}") from error
    except (ValueError, TypeError) as error:
        raise InputError(str(error).rstrip("."), where=where, got=arguments) from error
