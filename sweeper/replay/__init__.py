"""Recorded learning curves through the judge, the order and the pruners of a live sweep, on a simulated clock."""

from sweeper.replay.curves import Grid, RecordedTrial, load_curves
from sweeper.replay.promoted import PauseCosts
from sweeper.replay.score import Score
from sweeper.replay.simulate import replay, simulate
from sweeper.replay.simulated import Ending

__all__ = ["Ending", "Grid", "PauseCosts", "RecordedTrial", "Score", "load_curves", "replay", "simulate"]
