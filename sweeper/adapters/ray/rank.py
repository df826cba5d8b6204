"""One process of a gang: a Ray actor around ``trials.session``, the only place here that touches ``trials``."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any


class Rank:
    """Owns one rank's session; lives from trial to trial. Every method is called on all ranks of a gang at once."""

    def __init__(self, rank: int, ranks: int, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        from trials.session import TrialSession

        self._session = TrialSession(rank=rank, world_size=ranks)

    def endpoint(self) -> str:
        """Return an address at which this rank's node can be reached, with a port that is free now."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def connect(self, init_method: str) -> None:
        self._session.connect(init_method)

    def start(self, config: dict[str, Any], milestones: tuple[int, ...], checkpoints: dict[str, Any] | None) -> None:
        """Begin a trial, or go on from its newest checkpoint under ``checkpoints['root']``."""
        from sweeper.core.config import TrialConfig
        from sweeper.core.decode import decode
        from sweeper.core.milestones import Milestones

        self._session.start(decode(TrialConfig, config), Milestones(milestones))
        self._checkpoints = checkpoints
        if checkpoints is not None:
            self._session.load_newest(Path(checkpoints["root"]))
        self._saved = self._session.milestone if checkpoints is not None else 0

    def advance(self) -> dict[str, Any] | None:
        """Train to the next milestone; return the measurement on rank 0, None elsewhere.

        A checkpoint that is due is written meanwhile. Not before: only now is the measurement taken there sure to have
        been judged, and a trial that goes on from a checkpoint does not measure there again.
        """
        if self._checkpoints is None:
            measurement = self._session.advance()
        else:
            self._save_if_due(Path(self._checkpoints["root"]), int(self._checkpoints["every"]))
            measurement = self._session.advance()
            # Once the trial has ended, its folder is deleted: nothing may be written then.
            self._session.finish_saving()
        return None if measurement is None else measurement.to_json()

    def close(self) -> None:
        self._session.close()

    def _save_if_due(self, root: Path, every: int) -> None:
        reached = self._session.milestone
        if reached // every > self._saved // every:
            self._session.save_milestone(root, keep=1)
            self._saved = reached
