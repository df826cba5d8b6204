"""Shows nothing; what would be a notice goes to Python's log."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.core.record import SweepInfo, SweepSummary, TrialInfo, TrialRow
from sweeper.core.verdict import Verdict


class QuietView:
    """For whoever asks the sweep itself how it stands."""

    def open_sweep(self, sweep: SweepInfo) -> None:
        """Nothing is shown."""

    def recall(self, rows: Sequence[TrialRow]) -> None:
        """Nothing is shown."""

    def open_trial(self, trial: TrialInfo) -> None:
        """Nothing is shown."""

    def measured(self, trial: TrialInfo, measurement: Measurement, verdict: Verdict, wall_time_ms: int) -> None:
        """Nothing is shown."""

    def pause_trial(self, trial: TrialInfo) -> None:
        """Nothing is shown."""

    def close_trial(
        self,
        trial: TrialInfo,
        state: TrialState,
        verdict: Verdict | None,
        final: Mapping[str, float],
        detail: str = "",
    ) -> None:
        """Nothing is shown."""

    def close_sweep(self, summary: SweepSummary) -> None:
        """Nothing is shown."""

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing to give back."""

    def notice(self, message: str) -> None:
        logging.getLogger("sweeper").info(message)
