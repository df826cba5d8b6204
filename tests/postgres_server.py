"""A real PostgreSQL server for a test session: it asks for a password, and no privileged user runs it.

Needs PostgreSQL's own programs (``apt-get install postgresql``) and its driver (``pip install 'sweeper[postgres]'``).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

OWNERS = ("postgres", "nobody")
"""Who may own the server where root runs the tests, which PostgreSQL refuses to serve."""


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """A running server, for clients that take the password from ``PGPASSWORD``."""

    port: int
    password: str
    programs: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.password}

    def new_database(self, name: str) -> str:
        """Create a database and return its URL, without the password."""
        command = [str(self.programs / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "sweeper", name]
        subprocess.run(command, check=True, env=os.environ | self.environment)
        return f"postgresql+psycopg://sweeper@127.0.0.1:{self.port}/{name}"


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
    password, port = secrets.token_hex(12), _free_port()
    try:
        (home / "password").write_text(password)
        if owner is not None:
            for path in (home, home / "password"):
                shutil.chown(path, owner)
        data, log = home / "data", home / "log"
        make = [
            "initdb",
            "-D",
            data,
            "-U",
            "sweeper",
            "--pwfile",
            home / "password",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
        ]
        _run(programs, owner, [*make, "--no-sync", "--locale=C"])
        # Nothing here has to survive the machine's power.
        options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=50"
        _run(programs, owner, ["pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start"])
        try:
            yield PostgresServer(port=port, password=password, programs=programs)
        finally:
            _run(programs, owner, ["pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(home)


def _run(programs: Path, owner: str | None, command: list[str | Path]) -> None:
    program, *rest = map(str, command)
    group = None if owner is None else pwd.getpwnam(owner).pw_gid
    subprocess.run(
        [programs / program, *rest],
        user=owner,
        group=group,
        extra_groups=None if owner is None else [],
        cwd="/",
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )


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
