"""How fast earlier trials of a sweep were, against what was calculated for them."""

from __future__ import annotations

from dataclasses import replace

from sweeper.core.errors import InputError
from sweeper.core.layout import find_sweep, sweeps_root
from sweeper.core.roofline import Speed, Work, fit
from sweeper.planned import facts_key
from sweeper.planning.cells import CellPlanner
from sweeper.planning.hardware import Hardware

LEAST_SHARE = 0.1
"""Share of its samples from which a trial tells of its speed; the first steps are slower than the others."""


def learned_speed(sweep: str, hardware: Hardware, assumed: Speed, *, gpus_per_rank: float) -> Speed:
    """Return the speed of the trials that a sweep has recorded so far, on the same hardware.

    Raises:
        InputError: there is no such sweep, or no trial of it has trained far enough.
    """
    from sweeper.sweep import open_ledger, read_facts, reopen

    folder = find_sweep(sweep, sweeps_root())
    space, planned = reopen(folder)
    facts = read_facts(folder)["facts"]
    planner = CellPlanner(hardware, assumed, gpus_per_rank=gpus_per_rank)
    by_fingerprint = {each.cell.fingerprint: each for each in planned}
    observed: list[tuple[Work, float]] = []
    for record in open_ledger(folder, space).cells():
        each = by_fingerprint.get(record.fingerprint)
        if each is None or record.train_s <= 0:
            continue
        share = record.samples_seen / each.derived.planned_samples
        work = planner.work_alone(each, facts[facts_key(each.cell.config)])
        if share >= LEAST_SHARE and work is not None:
            done = replace(work, compute_s=share * work.compute_s, fixed_s=share * work.fixed_s)
            observed.append((done, record.train_s))
    if not observed:
        raise InputError(
            "has no trial whose speed could be learned",
            where="--from",
            got=sweep,
            mend="name a sweep with trials of this version that have trained",
        )
    return fit(observed, assumed)
