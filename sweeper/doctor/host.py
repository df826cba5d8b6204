"""Folders, disk, shared memory, open files, names and ports of this machine."""

from __future__ import annotations

import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sweeper.core.accelerators import GIB
from sweeper.doctor.finding import Finding, fail, ok, warn

LEAST_FREE: Final = 1 * GIB
ENOUGH_FREE: Final = 20 * GIB
ENOUGH_SHARED: Final = 1 * GIB
"""Of /dev/shm: NCCL and Ray pass data through it; containers have 64 MiB unless told otherwise."""
ENOUGH_FILES: Final = 4096
"""Open files of one process; Ray keeps a few for each worker."""


def folder(about: str, path: Path, variable: str, *, needed: float = 0.0) -> Finding:
    """Judge a folder that a sweep writes to, made if need be: writable, and with room.

    Args:
        variable: environment variable that moves it elsewhere.
        needed: bytes that a sweep would put there.
    """
    nearest = next((parent for parent in (path, *path.parents) if parent.exists()), path)
    elsewhere = f"export {variable}=FOLDER (one you may write to)"
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(f"{nearest} is a file")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return fail(about, f"{path} cannot be written to: {error.strerror or error}", elsewhere)
    free = shutil.disk_usage(nearest).free
    text = f"{path}, {free / GIB:.1f} GiB free"
    if free < max(LEAST_FREE, needed):
        want = f", {needed / GIB:.1f} needed" if needed > LEAST_FREE else ""
        return fail(about, text + want, f"make room, or {elsewhere}")
    if free < ENOUGH_FREE:
        return warn(about, text, f"make room, or {elsewhere}")
    return ok(about, text)


def shared_memory(path: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Judge the memory that processes share; nothing is said where the system has no such folder."""
    if path.is_dir():
        size = shutil.disk_usage(path).total
        if size < ENOUGH_SHARED:
            mend = "docker run --shm-size=8g ... (or --ipc=host)"
            yield warn("shared memory", f"{path} has {size / 2**20:.0f} MiB", mend)
        else:
            yield ok("shared memory", f"{size / GIB:.1f} GiB")


def open_files() -> Finding:
    """Judge how many files a process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < ENOUGH_FILES:
        return warn("open files", f"{soft} for one process", "ulimit -n 65536")
    return ok("open files", "unlimited" if soft < 0 else f"{soft:,}")


def host_name(name: str | None = None) -> Finding:
    """Judge whether this machine's own name leads to an address: ranks find each other by it."""
    wanted = name or socket.gethostname()
    try:
        return ok("host name", f"{wanted} is {socket.gethostbyname(wanted)}")
    except OSError:
        mend = f"echo '127.0.0.1 {wanted}' >> /etc/hosts (or export GLOO_SOCKET_IFNAME=lo)"
        return fail("host name", f"{wanted} has no address", mend)


def port(number: int) -> Finding:
    """Judge whether ``sweeper ui`` can listen on its port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return warn("port", f"{number} is taken: sweeper ui cannot listen there", f"sweeper ui --port {number + 1}")
    return ok("port", f"{number} is free")
