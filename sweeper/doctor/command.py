"""``sweeper doctor``: looks at everything a sweep needs, and says how to mend what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.core.errors import InputError
from sweeper.core.figures import plural
from sweeper.core.layout import cache_root, sweeps_root
from sweeper.doctor import host, packages, services
from sweeper.doctor.finding import Finding, Level, fail, ok

if TYPE_CHECKING:
    from sweeper.core.space import Cell, SearchSpace

EXIT_UNWELL = 1


def execute(args: argparse.Namespace) -> int:
    """Print a line for each thing looked at, as it is found; 1 where a sweep would not run."""
    found = []
    for each in examine(args.space, args.overrides, address=args.address, port=args.port):
        print(line(each), flush=True)
        found.append(each)
    failed, warned = (sum(each.level is level for each in found) for level in (Level.FAIL, Level.WARN))
    if not failed and not warned:
        print("all is well")
    else:
        print(f"{plural(failed, 'failure')}, {plural(warned, 'warning')}")
    return EXIT_UNWELL if failed else 0


def line(each: Finding) -> str:
    """Return a finding as one line, and its mend on a second."""
    mend = f"\n{'':<22}mend: {each.mend}" if each.mend else ""
    return f"{each.level.value:<5} {each.about:<16}{each.text}{mend}"


def examine(space: Path | None, overrides: list[str], *, address: str | None, port: int) -> Iterator[Finding]:
    """Yield all findings, the machine's first; of a search space also what it needs, names and reads."""
    yield packages.python(sys.version_info[:2])
    yield from packages.versions()
    try:
        loaded = _load(space, overrides)
    except InputError as error:
        loaded = None
        yield _unusable("search space", error)
    facts = packages.machine_facts()
    from sweeper.planning.hardware import gpus_here

    driver = gpus_here()
    cells = loaded[1] if loaded else ()
    yield from packages.packages(facts, needs=_needs(cells), has_gpu=bool(driver))
    yield from packages.gpus(facts, driver, ranks=max((cell.config.train.ranks for cell in cells), default=None))
    yield host.folder("sweeps", sweeps_root(), "SWEEPER_HOME", needed=_checkpoints(loaded))
    yield host.folder("cache", cache_root(), "SWEEPER_CACHE")
    yield from host.shared_memory()
    yield host.open_files()
    yield host.host_name()
    yield host.port(port)
    yield services.ray_cluster(address)
    tracking = loaded[0].tracking if loaded else None
    yield services.mlflow(tracking.mlflow if tracking else None)
    yield services.database(tracking.study if tracking else None)
    if loaded:
        yield model_and_data(cells)


def model_and_data(cells: tuple[Cell, ...]) -> Finding:
    """Judge whether model and data of every cell can be read, as ``sweeper run`` would."""
    from sweeper.core.errors import SweeperError
    from sweeper.planned import find_facts

    try:
        facts = find_facts(cells)
    except InputError as error:
        return _unusable("model and data", error)
    except SweeperError as error:
        return fail("model and data", str(error), "python -m trials prepare CONFIG shows the whole error")
    samples = sum(int(found["train_samples"]) for found in facts.values())
    return ok("model and data", f"readable, {samples:,} samples to train on")


def _unusable(about: str, error: InputError) -> Finding:
    text = str(error).removesuffix(f" ({error.mend})") if error.mend else str(error)
    # An error from another process comes as its message alone, its mend in brackets at the end.
    text, _, mend = (text, "", error.mend) if error.mend else text.partition(" (")
    return fail(about, text, mend.removesuffix(")") or "change what is named there")


def _load(space: Path | None, overrides: list[str]) -> tuple[SearchSpace, tuple[Cell, ...]] | None:
    if space is None:
        return None
    from sweeper.adapters.yaml_space import load_space

    return load_space(space, overrides)


def _needs(cells: tuple[Cell, ...]) -> list[str]:
    """Return the optional packages that these cells ask for."""
    needs = {"deepspeed" for cell in cells if cell.config.train.engine == "deepspeed"}
    needs |= {"peft" for cell in cells if cell.config.train.lora is not None}
    needs |= {"lm_eval" for cell in cells if cell.config.eval.lm_eval_tasks}
    return sorted(needs)


def _checkpoints(loaded: tuple[SearchSpace, tuple[Cell, ...]] | None) -> float:
    """Return a lower bound of the bytes of one trial's checkpoint, 0 where none are kept."""
    return 0.0 if loaded is None or loaded[0].resources.checkpoint_every is None else float(host.LEAST_FREE)
