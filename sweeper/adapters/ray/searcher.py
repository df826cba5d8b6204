"""Feeds cells to Tune in our order, one whenever a gang is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from sweeper.core.record import TrialInfo


class CellSearcher(Searcher):
    """Asks ``propose`` for the next cell, never more than ``gangs`` at a time.

    A cell that is chosen late is chosen with more knowledge; Tune left alone would draw many cells ahead.
    """

    def __init__(
        self, propose: Callable[[], TrialInfo | None], plain: Callable[[TrialInfo], dict[str, Any]], gangs: int
    ):
        super().__init__()
        self._propose = propose
        self._plain = plain
        self._gangs = gangs
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self._live) >= self._gangs:
            return None
        trial = self._propose()
        if trial is None:
            return str(Searcher.FINISHED)  # until a user asks for another cell
        self._live.add(trial_id)
        return self._plain(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a sweep is resumed from its study."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default", **kwargs: Any) -> None:
        """Keep nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_propose": None, "_plain": None}
