"""The command line: every command with its arguments, and what becomes of errors. It loads nothing heavy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeper import commands
from sweeper.arguments.control import add_clone, add_stop, add_unprune
from sweeper.arguments.doctor import add_doctor
from sweeper.arguments.export import add_export, add_register
from sweeper.arguments.imports import add_import
from sweeper.arguments.init import add_init
from sweeper.arguments.planning import add_plan
from sweeper.arguments.replay import add_replay
from sweeper.arguments.sweeps import add_completion, add_confirm, add_report, add_resume, add_run, add_sweep, add_ui
from sweeper.core.errors import InputError, SweeperError

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_KILLED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 no completed trial or an error while running, 2 wrong use, 3 interrupted but resumable.
    """
    arguments = build_parser().parse_args(argv)
    handler: Callable[[argparse.Namespace], int] = arguments.handler
    try:
        return handler(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_WRONG_USE
    except SweeperError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_KILLED


def build_parser() -> argparse.ArgumentParser:
    """Return the whole command line; `docs/cli.md` is generated from it."""
    parser = argparse.ArgumentParser(
        prog="sweeper",
        description="Run an exact grid of fine-tuning trials, end hopeless ones early, and export the best config.",
    )
    parser.add_argument("--version", action="version", version=_version())
    made = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, handler, add_arguments, summary, description in _COMMANDS:
        command = made.add_parser(name, help=summary, description=description)
        command.set_defaults(handler=handler)
        add_arguments(command)
    return parser


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    parser = build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path or "FILE" in str(action.metavar):
                action.complete = shtab.FILE
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"sweeper {version('sweeper')}"
    except PackageNotFoundError:
        return "sweeper (not installed)"


_COMMANDS = (
    (
        "run",
        commands.run,
        add_run,
        "start a sweep",
        "Start a sweep and stay with it until it ends.",
    ),
    (
        "resume",
        commands.resume,
        add_resume,
        "go on after a crash",
        "Run exactly the cells that have not ended.",
    ),
    (
        "init",
        commands.init,
        add_init,
        "write a first search space",
        "Write a search space for a model and data.",
    ),
    (
        "confirm",
        commands.confirm,
        add_confirm,
        "run the leaders again",
        "Run the best configurations again with fresh seeds, unpruned, and say whether the first is really first.",
    ),
    (
        "plan",
        commands.plan,
        add_plan,
        "show the cells; run nothing",
        "List every cell and what it implies.",
    ),
    (
        "doctor",
        commands.doctor,
        add_doctor,
        "look for what is missing",
        "Say what this machine has and lacks, and how to mend it.",
    ),
    (
        "status",
        commands.status,
        add_sweep,
        "show a sweep's trials",
        "Show what the study knows of each cell.",
    ),
    (
        "stop",
        commands.stop,
        add_stop,
        "end a trial, or the run",
        "End one trial for good, as pruned; without a trial end the process that runs the sweep, as Ctrl-C does.",
    ),
    (
        "unprune",
        commands.unprune,
        add_unprune,
        "bring a pruned trial back",
        "Run a pruned trial on; only a guard may end it.",
    ),
    (
        "clone",
        commands.clone,
        add_clone,
        "run a changed copy of a trial",
        "Add a cell: a trial with other settings.",
    ),
    (
        "replay",
        commands.replay,
        add_replay,
        "try pruners on recorded sweeps",
        "Play recorded sweeps through the order, judge and pruners of a live one: what is saved, and what is lost?",
    ),
    (
        "import",
        commands.import_runs,
        add_import,
        "read runs of other trainers",
        "Write runs that other trainers logged as recorded curves, for sweeper replay and sweeper report.",
    ),
    (
        "report",
        commands.report,
        add_report,
        "write a page on a sweep",
        "Write one HTML page, and PNGs, on what a sweep taught.",
    ),
    (
        "export",
        commands.export,
        add_export,
        "write the winner's config",
        "Write the best configuration for python -m trials or for another trainer, with where it comes from.",
    ),
    (
        "register",
        commands.register,
        add_register,
        "register the winner's weights",
        "Put the winner's weights into MLflow's model registry, trained again from its config unless they are given.",
    ),
    (
        "ui",
        commands.ui,
        add_ui,
        "open MLflow on a sweep",
        "Serve MLflow's pages on the sweep's store, locally.",
    ),
    (
        "completion",
        _completion,
        add_completion,
        "print a shell's completion script",
        'Print a script with which a shell completes commands, options and files: eval "$(sweeper completion bash)".',
    ),
)
"""Name, what it does, its arguments, and how it is described; in the order in which help lists them."""


if __name__ == "__main__":
    sys.exit(main())
