"""One process of a gang: a Ray actor around ``trials.session``, the only place here that touches ``trials``."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeper.adapters.ray.faults import TornCheckpoint
from sweeper.core.errors import RecordError

KEPT_CHECKPOINTS = 2
"""Per trial: should the newest prove to be torn, there is one before it."""
_SIOCGIFADDR = 0x8915
"""Linux: the address of an interface, at bytes 20 to 24 of the answer."""
_NOT_TORN = frozenset({"OutOfMemory", "OutOfMemoryError", "MemoryError", "KeyboardInterrupt", "SystemExit"})


class Rank:
    """Owns one rank's session; lives from trial to trial. Every method is called on all ranks of a gang at once."""

    def __init__(self, rank: int, ranks: int, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self._session = _session(rank, ranks)

    def endpoint(self) -> str:
        """Return an address at which this rank's node can be reached, with a port that is free now."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def connect(self, init_method: str) -> None:
        import ray

        interface = interface_of(ray.util.get_node_ip_address())
        if interface is not None:
            # Left alone, gloo announces what the host's own name stands for: on Debian 127.0.1.1, out of others' reach.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        self._session.connect(init_method)

    def start(self, config: dict[str, Any], milestones: tuple[int, ...], checkpoints: dict[str, Any] | None) -> int:
        """Begin a trial, or go on from its newest checkpoint; return milestones passed.

        ``checkpoints`` holds ``root``, where they are kept, ``every`` so many milestones (None: never) they are
        written, and ``paused``, a second folder that may hold one (or None).

        Raises:
            TornCheckpoint: the newest checkpoint cannot be read; without it, the one before it would be taken.
        """
        from sweeper.core.config import TrialConfig
        from sweeper.core.decode import decode
        from sweeper.core.milestones import Milestones

        self._session.start(decode(TrialConfig, config), Milestones(milestones))
        self._checkpoints = checkpoints
        if checkpoints is not None:
            self._load([Path(checkpoints[key]) for key in ("root", "paused") if checkpoints.get(key)])
        self._saved = int(self._session.milestone)
        return self._saved

    def advance(self) -> dict[str, Any] | None:
        """Train to the next milestone; return the measurement on rank 0, None elsewhere.

        A checkpoint that is due is written meanwhile. Not before: only now is the measurement taken there sure to have
        been judged, and a trial that goes on from a checkpoint does not measure there again.
        """
        if self._checkpoints is None:
            measurement = self._session.advance()
        else:
            self._save_if_due(Path(self._checkpoints["root"]), self._checkpoints["every"])
            measurement = self._session.advance()
            self._finish_saving()
        return None if measurement is None else measurement.to_json()

    def keep(self) -> None:
        """Write a checkpoint of the milestone where the trial stands, unless there is one."""
        if self._checkpoints is not None and self._session.milestone > self._saved:
            self._save(Path(self._checkpoints["root"]))
            self._session.finish_saving()

    def pause(self, root: str) -> bool:
        """Write the trial's state where it stands under ``root``; return False where that failed, on all ranks."""
        try:
            self._session.save_milestone(Path(root), keep=1)
            self._session.finish_saving()
        except RecordError as error:
            logging.getLogger(__name__).warning("%s", error)
            return False
        return True

    def state_bytes(self) -> int:
        """Return what the trial's state takes on disk, all ranks together, at most."""
        return int(self._session.state_bytes)

    def close(self) -> None:
        self._session.close()

    def _save_if_due(self, root: Path, every: int | None) -> None:
        reached = self._session.milestone
        if every is not None and reached // every > self._saved // every:
            self._save(root)

    def _save(self, root: Path) -> None:
        self._session.save_milestone(root, keep=KEPT_CHECKPOINTS)
        self._saved = self._session.milestone

    def _finish_saving(self) -> None:
        """Wait for the checkpoint: once the trial has ended, its folder is deleted, and nothing may be written then.

        A disk that is full costs the trial its checkpoint, not its life: training needs none.
        """
        try:
            self._session.finish_saving()
        except RecordError as error:
            logging.getLogger(__name__).warning("%s", error)

    def _load(self, roots: Sequence[Path]) -> None:
        """Whatever is wrong with a checkpoint, the files decide how it shows: any error makes it a torn one."""
        newest = max((path for root in roots for path in root.glob("step-*")), key=_name, default=roots[0] / "none")
        root = newest.parent
        try:
            self._session.load_newest(root)
        except BaseException as error:  # torch's CheckpointException is no Exception
            if _NOT_TORN & {cls.__name__ for cls in type(error).__mro__}:
                raise
            raise TornCheckpoint(str(newest), f"{type(error).__name__}: {error}") from error


def interface_of(address: str) -> str | None:
    """Return the network interface that bears this IPv4 address; None where none does, or the system does not tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                told = fcntl.ioctl(asks.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(told[20:24]) == address:
                    return name
    return None


def _name(path: Path) -> str:
    return path.name


def _session(rank: int, ranks: int) -> Any:
    """Return what runs the trials: native ones need torch, a trainer of the user's own brings what it needs."""
    from sweeper.adapters.process.session import FOLDER_VARIABLE, ProgramSession

    if FOLDER_VARIABLE in os.environ:
        return ProgramSession(rank=rank, world_size=ranks)
    from trials.session import TrialSession

    return TrialSession(rank=rank, world_size=ranks)
