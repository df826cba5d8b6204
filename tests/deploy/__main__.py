"""Install each distribution into a fresh environment and run the packaged quickstart: ``python tests/deploy dist``.

Takes some 3 minutes and 2 GB for each; the tests beside it check what is inside a wheel without installing the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(distribution: Path) -> str:
    """Return the last line that the quickstart prints; raises CalledProcessError where a step fails."""
    with tempfile.TemporaryDirectory(prefix="release-check-") as name:
        home = Path(name)
        venv.create(home / "venv", with_pip=True)
        # Nothing of the checkout: pip, too, takes a package on the path for an installed one, and installs nothing.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        run = [home / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run([*run, "-c", ROOT / "constraints.txt", distribution], check=True, cwd=home, env=environment)
        # No model or data made earlier either.
        environment |= {"HOME": name, "SWEEPER_CACHE": f"{name}/cache", "SWEEPER_HOME": f"{name}/sweeps"}
        sweeper = home / "venv" / "bin" / "sweeper"
        command = [sweeper, "run", "quickstart", "--plain"]
        done = subprocess.run(command, check=True, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
        subprocess.run([sweeper, "report"], check=True, cwd=home, env=environment, stdout=subprocess.DEVNULL)
        return next(line for line in done.stdout.splitlines() if line.startswith("best"))


def main(folder: Path) -> int:
    found = sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
    if len(found) != 2:
        print(f"error: {folder} must hold one wheel and one sdist", file=sys.stderr)
        return 2
    for distribution in found:
        print(f"{distribution.name}: {check(distribution)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
