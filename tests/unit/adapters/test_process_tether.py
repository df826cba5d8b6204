"""A process that is told when the one that started it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")

STARTER = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
words = [sys.executable, "-P", "-m", "sweeper.adapters.process.tether", *sys.argv[1:]]
subprocess.Popen(words, start_new_session=True)
time.sleep(60)
"""
TETHERED = """
import os, pathlib, signal, sys, time
def tell(number, frame):
    pathlib.Path("told").write_text(signal.Signals(number).name)
    sys.exit()
signal.signal(signal.SIGTERM, tell)
signal.signal(signal.SIGINT, tell)
pathlib.Path("path").write_text(sys.path[0])
os.rename("path", "begun")
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_hears_of_its_starters_death_and_of_ctrl_c_whatever_the_starter_ignored(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "tethered.py").write_text(TETHERED)
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path / "tethered.py")], cwd=tmp_path)
    try:
        wait_for(tmp_path / "begun")
        if number is signal.SIGINT:
            (child,) = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text().split()
            os.kill(int(child), number)
        else:
            starter.kill()
        wait_for(tmp_path / "told")
    finally:
        starter.kill()
        starter.wait()
    assert (tmp_path / "told").read_text() == number.name
    assert (tmp_path / "begun").read_text() != str(tmp_path)  # the user's files are no libraries


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.02)
