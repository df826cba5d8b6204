"""A real PostgreSQL server for a test session: it asks for a password, and no privileged user runs it.

Needs PostgreSQL's own programs (``apt-get install postgresql``) and its driver (``pip install 'sweeper[postgres]'``).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OWNERS = ("postgres", "nobody")
"""Who may own the server where root runs the tests, which PostgreSQL refuses to serve."""


class PostgresServer:
    """A running server, for clients that take the password from ``PGPASSWORD``."""

    def __init__(self, programs: Path, home: Path, owner: str | None) -> None:
        """Make a server in the folder ``home``, which ``owner`` may enter; ``start`` starts it."""
        self.port = _free_port()
        self.password = secrets.token_hex(12)
        self.programs = programs
        self._home = home
        self._owner = owner
        (home / "password").write_text(self.password)
        if owner is not None:
            for path in (home, home / "password"):
                shutil.chown(path, owner)
        make = ["initdb", "-D", home / "data", "-U", "sweeper", "--pwfile", home / "password", "-A", "scram-sha-256"]
        self._start([*make, "-E", "UTF8", "--no-sync", "--locale=C"]).wait()

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.password}

    def new_database(self, name: str) -> str:
        """Create a database and return its URL, without the password."""
        command = [str(self.programs / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "sweeper", name]
        subprocess.run(command, check=True, env=os.environ | self.environment)
        return f"postgresql+psycopg://sweeper@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it and return when it answers, after a ``kill`` too: it then recovers from its log."""
        # Nothing here has to survive the machine's power; the death of a process it survives without.
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=50"]
        where = ["-D", self._home / "data", "-k", self._home, "-p", str(self.port)]
        # A child of this process and not a daemon: once killed it must not stay as a zombie, whose number in its lock
        # file would keep the next one from starting.
        self._server = self._start(["postgres", *where, *options])
        ask = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ask, check=False).returncode != 0:
            if self._server.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with {self._server.returncode}: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(60)

    def kill(self) -> None:
        """Kill the server and every process that it started, as a machine's end would."""
        pids = _children(self._server.pid)
        self._server.kill()
        self._server.wait()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # The next server refuses to start while one of them still holds the shared memory.
        while any(map(_lives, pids)):
            time.sleep(0.02)

    @property
    def _log(self) -> Path:
        return self._home / "log"

    def _start(self, command: list[str | Path]) -> subprocess.Popen[bytes]:
        program, *rest = map(str, command)
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self.programs / program, *rest],
                user=self._owner,
                group=None if self._owner is None else pwd.getpwnam(self._owner).pw_gid,
                extra_groups=None if self._owner is None else [],
                cwd="/",
                stdout=log,
                stderr=log,
            )


def missing() -> str:
    """Return what a server needs and this machine lacks; empty where there is all of it."""
    if _programs() is None:
        return "needs PostgreSQL: apt-get install postgresql"
    if importlib.util.find_spec("psycopg") is None:
        return "needs PostgreSQL's driver: pip install 'sweeper[postgres]'"
    if os.geteuid() == 0 and _owner() is None:
        return f"PostgreSQL does not run as root, and there is no user {' or '.join(OWNERS)}"
    return ""


@contextmanager
def serving() -> Iterator[PostgresServer]:
    """Start a server on a free port of this machine; everything it wrote is gone afterwards."""
    programs = _programs()
    assert programs is not None
    owner = _owner() if os.geteuid() == 0 else None
    # Not below pytest's own folder, which only root may enter.
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = PostgresServer(programs, home, owner)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home)


def _children(parent: int) -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _state_and_parent(pid)[1] == parent]


def _lives(pid: int) -> bool:
    return _state_and_parent(pid)[0] not in ("", "Z")


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        # The field before is the program's name in brackets, and may hold spaces.
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)


def _programs() -> Path | None:
    """Return the folder of the newest server's programs; Debian keeps them out of the search path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = shutil.which("initdb")
    if debian:
        return debian[-1].parent
    return None if found is None else Path(found).resolve().parent


def _owner() -> str | None:
    known = {user.pw_name for user in pwd.getpwall()}
    return next((name for name in OWNERS if name in known), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
