"""What each command does: imports what it needs, calls it, prints, and returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sweeper.adapters.ray.address import client_address
from sweeper.api import Progress
from sweeper.core.command import Kind


def run(arguments: argparse.Namespace) -> int:
    from sweeper import api

    space = api.load_space(arguments.space, arguments.overrides)
    if (client := client_address(arguments.address)) is not None:
        from sweeper import remote

        return remote.run(
            client, space.definition.sweep, arguments.space, overrides=arguments.overrides, sweep=arguments.sweep
        )
    return api.run(
        space,
        sweep=arguments.sweep,
        address=arguments.address,
        progress=_progress(arguments),
    ).exit_code


def resume(arguments: argparse.Namespace) -> int:
    if (client := client_address(arguments.address)) is not None:
        from sweeper import remote

        return remote.resume(client, arguments.sweep)
    from sweeper import api

    return api.open(arguments.sweep).resume(address=arguments.address, progress=_progress(arguments)).exit_code


def _progress(arguments: argparse.Namespace) -> Progress:
    return "plain" if arguments.plain else "auto"


def init(arguments: argparse.Namespace) -> int:
    from sweeper.init.command import execute

    return execute(arguments)


def confirm(arguments: argparse.Namespace) -> int:
    if (client := client_address(arguments.address)) is not None:
        from sweeper import remote

        return remote.confirm(client, arguments.sweep, top=arguments.top, seeds=arguments.seeds)
    from sweeper import drive
    from sweeper.console import make_view

    view = make_view(plain=arguments.plain)
    return drive.confirm(
        arguments.sweep, view=view, top=arguments.top, seeds=arguments.seeds, address=arguments.address
    ).exit_code


def plan(arguments: argparse.Namespace) -> int:
    from sweeper.planning.command import execute

    return execute(arguments)


def doctor(arguments: argparse.Namespace) -> int:
    from sweeper.doctor.command import execute

    return execute(arguments)


def status(arguments: argparse.Namespace) -> int:
    from sweeper import api
    from sweeper.console.tables import print_status

    print_status(api.open(arguments.sweep).summary)
    return 0


def stop(arguments: argparse.Namespace) -> int:
    return _ask("stop", arguments)


def unprune(arguments: argparse.Namespace) -> int:
    return _ask("unprune", arguments, from_start=arguments.from_start)


def clone(arguments: argparse.Namespace) -> int:
    return _ask("clone", arguments, settings=arguments.settings)


def _ask(kind: Kind, arguments: argparse.Namespace, *, settings: Sequence[str] = (), from_start: bool = False) -> int:
    from sweeper.control import ask
    from sweeper.core.layout import find_sweep, sweeps_root

    folder = find_sweep(arguments.sweep, sweeps_root())
    print(ask(folder, kind, arguments.trial, settings=settings, from_start=from_start))
    return 0


def replay(arguments: argparse.Namespace) -> int:
    from sweeper.replay.command import execute

    return execute(arguments)


def import_runs(arguments: argparse.Namespace) -> int:
    from sweeper.imports.command import execute

    return execute(arguments)


def report(arguments: argparse.Namespace) -> int:
    from sweeper.report.command import report as write

    print(write(arguments.sweep, arguments.out))
    return 0


def export(arguments: argparse.Namespace) -> int:
    from sweeper.export.command import export as write

    write(arguments.sweep, arguments.to, gpus=arguments.gpus, out=arguments.out)
    return 0


def register(arguments: argparse.Namespace) -> int:
    from sweeper.register import register as put

    def notice(text: str) -> None:
        print(f"note: {text}", flush=True)

    print(put(arguments.sweep, name=arguments.name, weights=arguments.weights, notice=notice))
    return 0


def ui(arguments: argparse.Namespace) -> int:
    from sweeper.adapters.mlflow.ui import serve
    from sweeper.core.layout import find_sweep, sweeps_root
    from sweeper.sweep import reopen

    folder = find_sweep(arguments.sweep, sweeps_root())
    return serve(folder.path, port=arguments.port, uri=reopen(folder)[0].tracking.mlflow)
