"""Feeds cells to Tune in our order, one whenever a gang is free."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ray.tune.search import Searcher

from sweeper.core.record import TrialInfo
from sweeper.core.search import LATER, Later


class CellSearcher(Searcher):
    """Asks ``admit`` for the next cell whenever Tune could take one.

    A cell that is chosen late is chosen with more knowledge; Tune left alone would draw many cells ahead.
    """

    def __init__(
        self,
        admit: Callable[[Collection[TrialInfo]], TrialInfo | Later | None],
        plain: Callable[[TrialInfo], dict[str, Any]],
    ):
        """Keep what is needed; ``admit`` is told the trials that run or wait for room."""
        super().__init__()
        self._admit = admit
        self._plain = plain
        self._live: dict[str, TrialInfo] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        trial = self._admit(self._live.values())
        if trial is LATER:
            return None
        if trial is None:
            return str(Searcher.FINISHED)  # until a user asks for another cell
        self._live[trial_id] = trial
        return self._plain(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._live.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a sweep is resumed from its study."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default", **kwargs: Any) -> None:
        """Keep nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_admit": None, "_plain": None}
