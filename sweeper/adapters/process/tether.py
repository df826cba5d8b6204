"""``python -m sweeper.adapters.process.tether WORDS``: runs ``python WORDS`` as a process that is told by SIGTERM when
the one that started it dies, even by ``kill -9``, and that SIGINT and SIGTERM reach whatever was blocked or ignored."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # -P: the current folder is the user's, and a file of theirs called datasets.py is no library.
    os.execv(sys.executable, [sys.executable, "-P", *sys.argv[1:]])


if __name__ == "__main__":
    main()
