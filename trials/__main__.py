"""``python -m trials CONFIG``: train one trial.

``prepare CONFIG``: check and tokenise. ``steps CONFIG``: what a few steps cost. ``machine``: what is here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeper.core.errors import InputError, OutOfMemory


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when done, 1 when the trial failed, 2 for wrong input (nothing was trained)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["machine"]:
        from trials.machine import machine

        print(json.dumps(machine()))
        return 0
    if given[:1] == ["steps"]:
        return _steps(given[1:])
    return _prepare(given[1:]) if given[:1] == ["prepare"] else _train(given)


def _prepare(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m trials prepare", description="Check a config's model and data.")
    parser.add_argument("config", type=Path, help="trial config, YAML or JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object, errors too")
    parser.add_argument("--on-paper", action="store_true", help="go on without weights and tokenizer, to plan")
    options = parser.parse_args(given)
    from trials.alone import read_config
    from trials.prepare import prepare

    try:
        facts = prepare(read_config(options.config), on_paper=options.on_paper)
    except InputError as error:
        print(
            json.dumps({"error": str(error)}) if options.json else f"error: {error}",
            file=None if options.json else sys.stderr,
        )
        return 2
    print(json.dumps(facts, indent=None if options.json else 2))
    return 0


def _steps(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trials steps", description="Measure the time and the memory of a trial's first steps."
    )
    parser.add_argument("config", type=Path, help="trial config, YAML or JSON")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps to time, after the first; default: 2")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    options = parser.parse_args(given)
    from trials.few_steps import run_steps

    try:
        return run_steps(options.config, options.out, steps=options.steps)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OutOfMemory as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _train(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trials", description="Train one trial alone. 'prepare CONFIG' only checks and tokenises."
    )
    parser.add_argument("config", type=Path, help="trial config, YAML or JSON")
    parser.add_argument("--out", type=Path, help="folder of the results; default: trial-FINGERPRINT here")
    parser.add_argument("--save-weights", action="store_true", help="also write the trained model to OUT/model")
    parser.add_argument("--checkpoints", type=Path, metavar="DIR", help="write checkpoints into DIR while training")
    parser.add_argument("--every-milestones", type=int, metavar="N", help="milestones between checkpoints (1)")
    parser.add_argument("--keep", type=int, metavar="K", help="newest checkpoints to keep (2)")
    parser.add_argument("--resume", action="store_true", help="go on from DIR's newest checkpoint, if there is one")
    options = parser.parse_args(given)
    from trials.alone import run_alone
    from trials.keeping import keeping

    try:
        kept = keeping(options.checkpoints, options.every_milestones, options.keep, resume=options.resume)
        return run_alone(options.config, options.out, save_weights=options.save_weights, keeping=kept)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OutOfMemory as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
