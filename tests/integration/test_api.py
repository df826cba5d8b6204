"""Sweeps from Python: the example of docs/python.md, run in a thread as in a server's notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = """
assert sweep.name == "notebook-1"
assert sweep.best.name in set(table["trial"])
assert sweep.best.objective == table["heldout_loss"].min()
assert sweep.best.config.train.learning_rate == sweep.best.axes["learning_rate"]
assert len(table) == 4
assert set(table["state"]) <= {"complete", "pruned"}
again = sweeper.open("notebook-1")
assert again.trials.equals(table)
assert (again.unfinished, again.exit_code) == (0, 0)
assert "b16-lr1e-4" in repr(again)
assert again.resume(progress="quiet").trials.equals(table)
"""


@pytest.mark.long
def test_the_example_runs_in_a_thread_and_prints_nothing_of_its_own(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), flags=re.DOTALL)
    (tmp_path / "example.py").write_text(example + CHECKS)
    program = (
        "import runpy, threading\n"
        "told = []\n"
        "def main():\n"
        "    runpy.run_path('example.py')\n"
        "    told.append('done')\n"
        "thread = threading.Thread(target=main)\n"
        "thread.start()\nthread.join()\n"
        "assert told\n"
    )
    path = os.pathsep.join(map(str, (ROOT / "tests" / "scripted", ROOT)))
    environment = {key: value for key, value in os.environ.items() if key != "SWEEPER_HOME"} | {"PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "search space notebook: 4 cells = batch_size (2) x learning_rate (2)"
    assert re.match(r"b\d+-lr1e-\d \d", lines[1])
    assert len(lines) == 2 + 5, "two lines, and a table of four trials with its head"
