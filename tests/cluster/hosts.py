"""Hosts on one machine: each with its own network, address, name, /etc/hosts and temporary folder. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


class Host:
    """Lives as long as ``holder``, a process that only holds its namespaces."""

    def __init__(self, name: str, address: str, holder: subprocess.Popen[bytes], folder: Path) -> None:
        self.name = name
        self.address = address
        self.temp = folder
        self._holder = holder

    @property
    def pid(self) -> str:
        return str(self._holder.pid)

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs ``words`` on this host, in the folder of the caller."""
        return ["nsenter", "-t", self.pid, "--net", "--mount", "--uts", f"--wdns={Path.cwd()}", *words]

    def run(self, *words: str) -> None:
        subprocess.run(self.command(*words), check=True, capture_output=True)

    def set_link(self, state: str) -> None:
        """Set this host's network ``up`` or ``down``."""
        self.run("ip", "link", "set", "eth0", state)

    def lose_power(self) -> None:
        """Kill all that runs on this host with its network down, so that nobody else is told."""
        self.set_link("down")
        self.kill_all()

    def kill_all(self) -> None:
        for pid in self.processes():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Return the command line of all that runs on this host."""
        found = {}
        network = os.readlink(f"/proc/{self.pid}/ns/net")
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if folder.name != self.pid and os.readlink(folder / "ns/net") == network:
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        return found


def allowed() -> bool:
    """Return whether this process may make namespaces and links."""
    tools = all(map(shutil.which, ("ip", "unshare", "nsenter")))
    return (
        tools
        and subprocess.run(["unshare", "-n", "-m", "-u", "true"], check=False, capture_output=True).returncode == 0
    )


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two hosts with a cable between them; everything on them is gone afterwards."""
    with ExitStack() as at_end:
        made = [at_end.enter_context(_host(number)) for number in (1, 2)]
        ends = [f"sw{host.pid}" for host in made]
        subprocess.run(["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]], check=True)
        for host, end in zip(made, ends, strict=True):
            subprocess.run(["ip", "link", "set", end, "netns", host.pid], check=True)
            host.run("ip", "link", "set", end, "name", "eth0")
            host.run("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
            host.run("ip", "link", "set", "lo", "up")
            host.set_link("up")
        yield made[0], made[1]


@contextmanager
def _host(number: int) -> Iterator[Host]:
    # Ray's sockets have long names, and a path of more than 107 letters is refused.
    folder = Path(tempfile.mkdtemp(prefix="host-"))
    holder = subprocess.Popen(["unshare", "-n", "-m", "-u", "sleep", "infinity"])
    try:
        _wait_for_namespaces(holder.pid)
        host = Host(f"host{number}", f"10.213.7.{number}", holder, folder)
        # As Debian writes it: a host that asks for its own name is told an address that no other host reaches.
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n")
        host.run("mount", "--bind", str(folder / "hosts"), "/etc/hosts")
        host.run("mount", "-t", "tmpfs", "none", str(folder))
        host.run("hostname", host.name)
        yield host
        host.kill_all()
    finally:
        holder.kill()
        holder.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_namespaces(pid: int) -> None:
    while os.readlink(f"/proc/{pid}/ns/uts") == os.readlink("/proc/self/ns/uts"):
        time.sleep(0.01)
