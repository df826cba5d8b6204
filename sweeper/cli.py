"""The command line: parses, calls, prints. Heavy libraries are imported only by the command that needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeper.api import Progress
from sweeper.arguments.control import add_clone, add_trial, add_unprune
from sweeper.arguments.doctor import add_doctor
from sweeper.arguments.export import add_export
from sweeper.arguments.imports import add_import
from sweeper.arguments.init import add_init
from sweeper.arguments.planning import add_plan
from sweeper.arguments.replay import add_replay
from sweeper.arguments.space import add_live, add_space
from sweeper.core.command import Kind
from sweeper.core.errors import InputError, SweeperError

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_KILLED = 130

Handler = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 no completed trial or an error while running, 2 wrong use, 3 interrupted but resumable.
    """
    arguments = build_parser().parse_args(argv)
    handler: Handler = arguments.handler
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
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = _command(commands, "run", _run, "start a sweep", "Start a sweep and stay with it until it ends.")
    add_space(run)
    run.add_argument("--sweep", metavar="NAME", help="name of the sweep; default: the space's name and a number")
    add_live(run)

    resume = _command(commands, "resume", _resume, "go on after a crash", "Run exactly the cells that have not ended.")
    resume.add_argument("sweep", nargs="?", metavar="SWEEP", help="name or folder; default: the latest sweep")
    add_live(resume)

    init = _command(commands, "init", _init, "write a first search space", "Write a search space for a model and data.")
    add_init(init)

    confirm = _command(
        commands,
        "confirm",
        _confirm,
        "run the leaders again",
        "Run the best configurations again with fresh seeds, unpruned, and say whether the first is really first.",
    )
    confirm.add_argument("sweep", nargs="?", metavar="SWEEP", help="name or folder; default: the latest sweep")
    confirm.add_argument("--top", type=int, default=3, metavar="N", help="configurations to run again; default: 3")
    confirm.add_argument("--seeds", type=int, default=3, metavar="N", help="fresh seeds of each; default: 3")
    add_live(confirm)

    plan = _command(commands, "plan", _plan, "show the cells; run nothing", "List every cell and what it implies.")
    add_space(plan)
    add_plan(plan)

    doctor = _command(
        commands,
        "doctor",
        _doctor,
        "look for what is missing",
        "Say what this machine has and lacks, and how to mend it.",
    )
    add_doctor(doctor)

    status = _command(commands, "status", _status, "show a sweep's trials", "Show what the study knows of each cell.")
    status.add_argument("sweep", nargs="?", metavar="SWEEP", help="name or folder; default: the latest sweep")

    _control_commands(commands)

    replay = _command(
        commands,
        "replay",
        _replay,
        "try pruners on recorded sweeps",
        "Play recorded sweeps through the order, judge and pruners of a live one: what is saved, and what is lost?",
    )
    add_replay(replay)

    imported = _command(
        commands,
        "import",
        _import,
        "read runs of other trainers",
        "Write runs that other trainers logged as recorded curves, for sweeper replay and sweeper report.",
    )
    add_import(imported)

    report = _command(
        commands, "report", _report, "write a page on a sweep", "Write one HTML page, and PNGs, on what a sweep taught."
    )
    report.add_argument(
        "sweep",
        nargs="?",
        metavar="SWEEP",
        help="name or folder, or a file of recorded curves (FILE.jsonl, format curves/1); default: the latest sweep",
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="default: the folder report in the sweep's own")

    export = _command(
        commands,
        "export",
        _export,
        "write the winner's config",
        "Write the best configuration for python -m trials or for another trainer, with where it comes from.",
    )
    add_export(export)

    ui = _command(commands, "ui", _ui, "open MLflow on a sweep", "Serve MLflow's pages on the sweep's store, locally.")
    ui.add_argument("sweep", nargs="?", metavar="SWEEP", help="name or folder; default: the latest sweep")
    ui.add_argument("--port", type=int, default=5000, help="default: 5000")

    completion = _command(
        commands,
        "completion",
        _completion,
        "print a shell's completion script",
        'Print a script with which a shell completes commands, options and files: eval "$(sweeper completion bash)".',
    )
    completion.add_argument("shell", choices=["bash", "zsh"], help="the shell it is for")
    return parser


def _control_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    stop = _command(
        commands,
        "stop",
        _stop,
        "end a trial, or the run",
        "End one trial for good, as pruned; without a trial end the process that runs the sweep, as Ctrl-C does.",
    )
    add_trial(stop, nargs="?", what="default: the whole run, which can be resumed")
    unprune = _command(
        commands,
        "unprune",
        _unprune,
        "bring a pruned trial back",
        "Run a pruned trial on; only a guard may end it.",
    )
    add_unprune(unprune)
    clone = _command(
        commands,
        "clone",
        _clone,
        "run a changed copy of a trial",
        "Add a cell: a trial with other settings.",
    )
    add_clone(clone)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(handler=handler)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from sweeper.api import load_space, run

    return run(
        load_space(arguments.space, arguments.overrides),
        sweep=arguments.sweep,
        address=arguments.address,
        progress=_progress(arguments),
    ).exit_code


def _resume(arguments: argparse.Namespace) -> int:
    from sweeper import api

    return api.open(arguments.sweep).resume(address=arguments.address, progress=_progress(arguments)).exit_code


def _progress(arguments: argparse.Namespace) -> Progress:
    return "plain" if arguments.plain else "auto"


def _init(arguments: argparse.Namespace) -> int:
    from sweeper.init.command import execute

    return execute(arguments)


def _confirm(arguments: argparse.Namespace) -> int:
    from sweeper.console import make_view
    from sweeper.drive import confirm

    view = make_view(plain=arguments.plain)
    return confirm(
        arguments.sweep, view=view, top=arguments.top, seeds=arguments.seeds, address=arguments.address
    ).exit_code


def _plan(arguments: argparse.Namespace) -> int:
    from sweeper.planning.command import execute

    return execute(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from sweeper.doctor.command import execute

    return execute(arguments)


def _status(arguments: argparse.Namespace) -> int:
    from sweeper import api
    from sweeper.console.tables import print_status

    print_status(api.open(arguments.sweep).summary)
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    return _ask("stop", arguments)


def _unprune(arguments: argparse.Namespace) -> int:
    return _ask("unprune", arguments, from_start=arguments.from_start)


def _clone(arguments: argparse.Namespace) -> int:
    return _ask("clone", arguments, settings=arguments.settings)


def _ask(kind: Kind, arguments: argparse.Namespace, *, settings: Sequence[str] = (), from_start: bool = False) -> int:
    from sweeper.control import ask
    from sweeper.core.layout import find_sweep, sweeps_root

    folder = find_sweep(arguments.sweep, sweeps_root())
    print(ask(folder, kind, arguments.trial, settings=settings, from_start=from_start))
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from sweeper.replay.command import execute

    return execute(arguments)


def _import(arguments: argparse.Namespace) -> int:
    from sweeper.imports.command import execute

    return execute(arguments)


def _report(arguments: argparse.Namespace) -> int:
    from sweeper.report.command import report

    print(report(arguments.sweep, arguments.out))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from sweeper.export.command import export

    export(arguments.sweep, arguments.to, gpus=arguments.gpus, out=arguments.out)
    return 0


def _ui(arguments: argparse.Namespace) -> int:
    from sweeper.adapters.mlflow.ui import serve
    from sweeper.core.layout import find_sweep, sweeps_root
    from sweeper.sweep import reopen

    folder = find_sweep(arguments.sweep, sweeps_root())
    return serve(folder.path, port=arguments.port, uri=reopen(folder)[0].tracking.mlflow)


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


if __name__ == "__main__":
    sys.exit(main())
