"""``python -m sweeper.adapters.process.call MODULE:FUNCTION``: one rank of a trial that is a Python function."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any

from sweeper.core.errors import InputError
from sweeper.trial import current


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweeper.adapters.process.call")
    parser.add_argument("function", metavar="MODULE:FUNCTION")
    parser.add_argument("--check", action="store_true", help="only say whether it is there")
    options = parser.parse_args()
    try:
        function = find(options.function)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not options.check:
        trial = current()
        assert trial is not None
        function(trial.config)
    return 0


def find(name: str) -> Callable[..., Any]:
    """Return the function called ``MODULE:FUNCTION``, its module looked for in the current folder too.

    Raises:
        InputError: there is no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise InputError("no such module", where="trial.function", got=module_name) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"module {module_name} has no such function", where="trial.function", got=function_name)
    return function  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
