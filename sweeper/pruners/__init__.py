"""Optuna pruners that compare trials at equal samples seen and say why they end one."""

from sweeper.pruners.aligned import SampleAligned
from sweeper.pruners.base import VerdictPruner
from sweeper.pruners.calibrated import CalibratedPruner
from sweeper.pruners.compose import FirstOf, from_spec
from sweeper.pruners.early_dynamics import EarlyDynamicsPruner
from sweeper.pruners.guards import DivergenceGuard, NonFiniteGuard
from sweeper.pruners.history import Curve, History, history
from sweeper.pruners.record import report
from sweeper.pruners.stall import StallPruner

__all__ = [
    "CalibratedPruner",
    "Curve",
    "DivergenceGuard",
    "EarlyDynamicsPruner",
    "FirstOf",
    "History",
    "NonFiniteGuard",
    "SampleAligned",
    "StallPruner",
    "VerdictPruner",
    "from_spec",
    "history",
    "report",
]
