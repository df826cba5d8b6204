"""``python -m trials.world quickstart``: make a world now and print where it lies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sweeper.core.config import BUILTIN_PREFIX
from sweeper.core.errors import InputError
from trials.world.paths import known_paths, resolve


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the named world and print one line per path; return 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m trials.world", description=__doc__)
    parser.add_argument("name", nargs="?", default="quickstart", help="which world to make")
    root = BUILTIN_PREFIX + parser.parse_args(arguments).name
    try:
        model = resolve(root)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{root}  {model}")
    for path in known_paths():
        if path.startswith(f"{root}/"):
            print(f"{path}  {resolve(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
