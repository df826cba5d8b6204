"""The plan of a sweep as tables: all cells with the sums below them, or one cell in full."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from sweeper.console.tables import console_on, plain_table
from sweeper.core.accelerators import GIB
from sweeper.core.figures import count, duration, number, percent, plural
from sweeper.core.memory_terms import PARTS

if TYPE_CHECKING:
    from sweeper.core.roofline import Speed
    from sweeper.planning.cells import CellPlan
    from sweeper.planning.hardware import Hardware
    from sweeper.planning.totals import SweepPlan


def print_plan(
    plans: Sequence[CellPlan],
    total: SweepPlan,
    where: Hardware,
    speed: Speed,
    notes: Sequence[str],
    stream: TextIO | None = None,
) -> None:
    """Print every cell with its numbers, or the reason why it cannot run, and what the sweep costs."""
    console = console_on(stream or sys.stdout)
    heads = ("cell", "steps", "warmup", "samples", "tokens a rank", "memory a rank", "time", "note")
    table = plain_table(*heads, right=(1, 2, 3, 4, 5, 6), fit=console.is_terminal)
    for each in plans:
        derived = each.planned.derived
        note = Text(f"infeasible: {each.infeasible}", style="yellow") if each.infeasible else Text("")
        table.add_row(
            each.planned.cell.name,
            count(derived.total_steps),
            f"{derived.warmup_steps}",
            count(derived.planned_samples),
            _tokens(each),
            size(each.memory.device) if each.memory else "-",
            duration(each.seconds) if each.work else "-",
            note,
        )
    console.print(table)
    for line in (*_sums(total, where, speed, any(each.work for each in plans)), *notes):
        console.print(line, soft_wrap=True)


def print_cell(each: CellPlan, where: Hardware, speed: Speed, stream: TextIO | None = None) -> None:
    """Print all that is known of one cell, with where each number comes from."""
    console = console_on(stream or sys.stdout)
    for name, value, origin in _facts(each, where, speed):
        console.print(Text.assemble((f"{name:<16}", "bold"), f"{value:>14}  ", (origin, "dim")), soft_wrap=True)
    if each.infeasible:
        console.print(Text(f"infeasible: {each.infeasible}", style="yellow"), soft_wrap=True)


def size(value: float) -> str:
    """Return bytes as MiB or GiB."""
    return f"{value / GIB:.1f} GiB" if value >= 0.995 * GIB else f"{value / 2**20:.0f} MiB"


def _tokens(each: CellPlan) -> str:
    """Return the fullest micro-batch and the accumulation, e.g. ``8,192 x 3``."""
    return "-" if each.batches is None else f"{count(each.batches.largest.tokens)} x {each.batches.micro_batches}"


def _sums(total: SweepPlan, where: Hardware, speed: Speed, is_timed: bool) -> list[str]:
    lines = [
        f"{plural(total.cells, 'cell')}: {total.runnable} can run, {total.cells - total.runnable} infeasible; "
        f"{count(total.samples)} samples in the full grid"
    ]
    if not is_timed or not total.runnable:
        return lines
    unit = "GPU-hours" if where.is_gpu else "rank-hours"
    kind = where.device.name if where.is_gpu else "CPU core" if where.count == 1 else "CPU cores"
    lines.append(f"on {where.count} {kind} ({where.origin}): {plural(total.at_once, 'trial')} at a time")
    lines.append(
        f"full grid: {number(total.gpu_hours, 3)} {unit}{_money(total, total.gpu_hours)}, "
        f"{duration(3600 * total.hours)} from start to end; longest {total.longest}, "
        f"{duration(3600 * total.longest_hours)}"
    )
    if total.saving is None:
        lines.append("with pruning: not known for this pruner; --like FILE.jsonl replays a sweep like this one")
    elif total.saving.high:
        between = f"{number(total.cheapest, 3)} to {number(total.dearest, 3)} {unit}"
        between += f"{_money(total, total.cheapest, total.dearest)}, {total.saving.text()} saved"
        lines.append(f"with pruning: {between} ({total.saving.origin})")
    lines.append(f"memory of the host: {size(total.host_bytes)}; checkpoints on disk: {size(total.checkpoint_bytes)}")
    if speed.trials:
        lines.append(f"time: speed learned from {plural(speed.trials, 'trial')}, {percent(1 / speed.compute)} of peak")
    elif speed.probes:
        lines.append(
            f"time: speed of real steps of {plural(speed.probes, 'cell')}, {percent(1 / speed.compute)} of peak"
        )
    else:
        lines.append(
            f"time: assumes {percent(1 / speed.compute)} of the peak and can be off by a factor; "
            "once trials have run: --from SWEEP"
        )
    return lines


def _money(total: SweepPlan, *hours: float) -> str:
    if total.price is None:
        return ""
    return " = " + " to ".join(f"{total.price * each:,.2f}" for each in hours)


def _facts(each: CellPlan, where: Hardware, speed: Speed) -> list[tuple[str, str, str]]:
    derived, train = each.planned.derived, each.planned.cell.config.train
    lines = [
        ("cell", each.planned.cell.name, f"fingerprint {each.planned.cell.fingerprint}"),
        ("samples", count(derived.planned_samples), f"{train.epochs:g} epochs of {count(derived.train_samples)}"),
        ("steps", count(derived.total_steps), f"batches of {count(train.batch_size)}"),
        ("warmup", f"{derived.warmup_steps}", f"steps, from {derived.warmup_origin}"),
    ]
    if each.memory is None or each.batches is None or each.work is None:
        return lines
    lines += [(part, size(getattr(each.memory, part)), "a rank") for part in PARTS]
    room = where.device.memory
    lines.append(("at its peak", "", each.memory.moment))
    lines.append(("memory", size(each.memory.device), f"a rank, of {size(room)}" if room else "a rank"))
    lines.append(("host memory", size(each.memory.base), "a node: base weights"))
    lines.append(("", size(each.memory.host), "a rank: what is offloaded"))
    largest = each.batches.largest
    lines.append(("micro-batch", count(largest.tokens), f"tokens at most, {count(largest.loss_tokens)} with loss"))
    lines.append(("accumulation", f"{each.batches.micro_batches}", f"at {count(train.max_tokens_per_rank)} tokens"))
    if each.choice is not None:
        accumulation = f"the largest that fits a rank, accumulation {each.choice.accumulation}"
        lines.append(("fits", count(each.choice.max_tokens_per_rank), f"max_tokens_per_rank: {accumulation}"))
    learned = f"learned from {plural(speed.trials, 'trial')}" if speed.trials else "assumed"
    lines += [
        ("training", duration(each.train_s), f"{number(each.work.flops)} FLOP at a speed that is {learned}"),
        ("evaluation", duration(each.evaluation_s), f"{len(each.planned.milestones.samples)} milestones"),
        ("GPU-hours", number(each.gpu_hours, 3), f"{train.ranks} ranks"),
        ("checkpoint", size(each.checkpoint_bytes), "fp32 weights and two moments"),
    ]
    return lines
