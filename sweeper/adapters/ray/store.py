"""The folder of checkpoints: which of them outlive their trial."""

from __future__ import annotations

import shutil
from pathlib import Path

from sweeper.core.lifecycle import TrialState


class CheckpointStore:
    """Deletes the checkpoints of ended trials, except those of the latest pruned ones, which may be brought back."""

    def __init__(self, root: Path, keep_pruned: int) -> None:
        """Keep the checkpoints of ``keep_pruned`` pruned trials under ``root``, each in a folder by fingerprint."""
        self.root = root
        self._keep_pruned = keep_pruned
        self._pruned: list[str] = []

    def ended(self, fingerprint: str, state: TrialState) -> None:
        """Take note that a trial has ended; nothing of it may be written any more."""
        self._pruned = [kept for kept in self._pruned if kept != fingerprint]
        if state is not TrialState.PRUNED or self._keep_pruned == 0:
            self._delete(fingerprint)
            return
        self._pruned.append(fingerprint)
        while len(self._pruned) > self._keep_pruned:
            self._delete(self._pruned.pop(0))

    def forget(self, fingerprint: str) -> None:
        """Delete the checkpoints of a trial that has not ended: its state lies elsewhere."""
        self._delete(fingerprint)

    def _delete(self, fingerprint: str) -> None:
        shutil.rmtree(self.root / fingerprint, ignore_errors=True)
