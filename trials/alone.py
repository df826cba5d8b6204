"""One trial without a sweep: under torchrun, or with its own ranks started here."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import decode
from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement
from sweeper.core.over_long import over_long
from trials.keeping import Keeping, cut_record

if TYPE_CHECKING:
    from trials.session import TrialSession

_IGNORED_KEYS = ("provenance", "sweeper_format")
"""What an exported winner carries besides its config."""
_LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Set by torchrun in every rank."""


class _Loader(yaml.SafeLoader):
    """Safe YAML, and so JSON, in which ``1e-08`` is a number; YAML 1.1 wants a dot in it and reads text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_config(file: Path) -> TrialConfig:
    """Return the config in a YAML or JSON file.

    Raises:
        InputError: the file is missing, unreadable, or holds anything that is not a trial's config.
    """
    try:
        plain = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise InputError("cannot be read", where=str(file), mend=str(error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError("is not YAML", where=str(file), mend=" ".join(str(error).split())) from error
    if not isinstance(plain, dict):
        raise InputError("must hold model, data and train sections", where=str(file), got=plain)
    try:
        config = decode(TrialConfig, {key: value for key, value in plain.items() if key not in _IGNORED_KEYS})
    except InputError as error:
        raise error.at(f"{file}: {error.where}") from error
    if config.trial is not None:
        trainer = config.trial.function or config.trial.command
        raise InputError("was trained by a trainer of your own: start that", where=str(file), got=trainer)
    return config


def run_alone(file: Path, out: Path | None, *, save_weights: bool, keeping: Keeping | None = None) -> int:
    """Train the config's trial and return the exit code; ranks are started here unless torchrun has started them.

    Raises:
        InputError: config, model, data or checkpoints cannot be used.
    """
    config = read_config(file)
    if (place := launched()) is not None:
        rank, ranks = place
        return train(config, out, rank=rank, ranks=ranks, weights=save_weights, keeping=keeping)
    from trials.prepare import prepare

    note = over_long(prepare(config))
    if note:
        print(note, flush=True)
    if config.train.ranks == 1:
        return train(config, out, rank=0, ranks=1, weights=save_weights, keeping=keeping)
    program = [str(file), *(["--out", str(out)] if out else []), *(["--save-weights"] if save_weights else [])]
    return launch(config.train.ranks, [*program, *(keeping.arguments() if keeping else [])])


def launched() -> tuple[int, int] | None:
    """Return rank and number of ranks where torchrun has started this process, else None."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if _LAUNCHED in os.environ else None


def train(
    config: TrialConfig,
    out: Path | None,
    *,
    rank: int,
    ranks: int,
    weights: bool,
    keeping: Keeping | None = None,
) -> int:
    """Run this rank of the trial to its end; rank 0 prints a line and writes a record per milestone."""
    from trials.session import TrialSession
    from trials.source import go_offline

    go_offline(config.model, config.data)
    folder = out or Path(f"trial-{fingerprint(config)}")
    session = TrialSession(rank=rank, world_size=ranks)
    try:
        session.connect("env://")
        session.start(config)
        if keeping is not None and keeping.resume:
            session.load_newest(keeping.root)
        if rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            cut_record(folder / "measurements.jsonl", session.step)
        while not session.is_over:
            _advance(session, folder, keeping)
        session.finish_saving()
        if weights:
            session.save_weights(folder / "model")
    finally:
        session.close()
    return 0


def _advance(session: TrialSession, folder: Path, keeping: Keeping | None) -> None:
    before = session.milestone
    measurement = session.advance()
    # First the record, then the checkpoint: a kill between the two measures once more what the record then drops.
    if measurement is not None:
        _record(measurement, folder)
    if keeping is not None and (keeping.is_due(before, session.milestone) or session.is_over):
        session.save_milestone(keeping.root, keep=keeping.keep)


def _record(measurement: Measurement, folder: Path) -> None:
    with (folder / "measurements.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(measurement.to_json(), allow_nan=False) + "\n")
    print(line(measurement), flush=True)


def line(measurement: Measurement) -> str:
    """Return a milestone as one line for people."""
    scores = "".join(f"  {name} {value:.4f}" for name, value in measurement.scores.items() if "/" not in name)
    return (
        f"samples {measurement.samples_seen:>8}  step {measurement.step:>6}  loss {measurement.train_loss:.4f}  "
        f"grad norm {measurement.grad_norm:.4f}{scores}  {measurement.train_s:.1f} s"
    )


def launch(ranks: int, program: Sequence[str]) -> int:
    """Start ``python -m trials`` with these arguments on each rank, as torchrun does; return 1 where a rank failed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
    try:
        torchrun(["--standalone", f"--nproc-per-node={ranks}", "-m", "trials", *program])
    except ChildFailedError as error:
        print(f"error: a rank failed: {error.get_first_failure()[1].message}", file=sys.stderr)
        return 1
    return 0
