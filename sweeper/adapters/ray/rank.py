"""One process of a gang: a Ray actor around ``trials.session``, the only place here that touches ``trials``."""

from __future__ import annotations

import os
import socket
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

    def start(self, config: dict[str, Any], milestones: tuple[int, ...]) -> None:
        from sweeper.core.config import TrialConfig
        from sweeper.core.decode import decode
        from sweeper.core.milestones import Milestones

        self._session.start(decode(TrialConfig, config), Milestones(milestones))

    def advance(self) -> dict[str, Any] | None:
        """Train to the next milestone; return the measurement on rank 0, None elsewhere."""
        measurement = self._session.advance()
        return None if measurement is None else measurement.to_json()

    def close(self) -> None:
        self._session.close()
