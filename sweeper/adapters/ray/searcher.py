"""Feeds cells to Tune in our order, one whenever a gang is free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from sweeper.core.record import TrialInfo
from sweeper.core.search import LATER, Later


class CellSearcher(Searcher):
    """Asks ``propose`` for the next cell whenever there is room for another gang.

    A cell that is chosen late is chosen with more knowledge; Tune left alone would draw many cells ahead. A cell whose
    gang has to wait for room is the last one drawn until it has it, so a large gang is never starved by small ones.
    """

    def __init__(
        self,
        propose: Callable[[], TrialInfo | Later | None],
        plain: Callable[[TrialInfo], dict[str, Any]],
        has_room: Callable[[Sequence[int]], bool],
    ):
        """Keep what is needed; ``has_room`` is told the ranks of the gangs that run or wait."""
        super().__init__()
        self._propose = propose
        self._plain = plain
        self._has_room = has_room
        self._live: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._has_room(tuple(self._live.values())):
            return None
        trial = self._propose()
        if trial is LATER:
            return None
        if trial is None:
            return str(Searcher.FINISHED)  # until a user asks for another cell
        self._live[trial_id] = trial.config.train.ranks
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
        return {**self.__dict__, "_propose": None, "_plain": None, "_has_room": None}
