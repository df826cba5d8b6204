"""What is said when a sweep has ended: the best config, why it won, what was saved, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sweeper.core.figures import count, duration, number, percent, plural
from sweeper.core.foretell import CLAIMS, Evidence
from sweeper.core.lifecycle import TrialState
from sweeper.core.record import SweepSummary
from sweeper.core.space import short_number
from sweeper.core.standings import Standing, setting

HEAD_COLUMNS: Final = 8
"""Width of the word that begins a line."""
EDGE_VALUES: Final = 3
"""Fewest values of an axis of which one lies between: of two, the best is always at an end."""


def closing_lines(summary: SweepSummary) -> list[str]:
    """Return the closing text, one item per line; every number comes from ``summary``."""
    return [*result_lines(summary), "", *_next_lines(summary)]


def result_lines(summary: SweepSummary) -> list[str]:
    """Return the closing text without the commands to go on with."""
    said = [*_best_lines(summary), *_doubt_lines(summary), *_ended_lines(summary), *_saved_lines(summary)]
    return said + claim_lines(summary.signals)


def axes_text(axes: Mapping[str, Any]) -> str:
    """Return axis values as ``batch_size 256, learning_rate 1e-3``."""
    parts = []
    for axis, value in axes.items():
        parts.append(f"{axis} {short_number(value) if _is_number(value) else value}")
    return ", ".join(parts)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _best_lines(summary: SweepSummary) -> list[str]:
    found = summary.standings
    if not found or summary.best is None:
        return ["no best config: no trial ran to its end with a finite " + summary.objective]
    best, second = found[0], found[1] if len(found) > 1 else None
    axes = axes_text(setting(summary.best.axes) if best.runs > 1 else summary.best.axes)
    lines = [f"best    {best.name}: {summary.objective} {number(best.score)}  ({axes})"]
    if second is None:
        lines.append("why     it is the only one that ran to its end: there is nothing to compare it with")
    elif summary.gap == 0:
        lines.append(f"why     tied with {second.name}; the one that comes first in the grid is named")
    else:
        word = "lower" if best.score < second.score else "higher"
        lines.append(
            f"why     {number(summary.gap, 3)} {word} than the runner-up {second.name} ({number(second.score)})"
        )
        lines.append(f"        {_runs_text(best, second)}")
    return [*lines, *_confirmed_lines(summary), *_edge_lines(summary)]


def _edge_lines(summary: SweepSummary) -> list[str]:
    """Say on which axes the best lies at an end of what was tried; at 0 there is nothing beyond."""
    assert summary.best is not None
    said = []
    for axis, value in setting(summary.best.axes).items():
        rows = (row for row in summary.rows if row.state != TrialState.INFEASIBLE and not row.replicate_of)
        values = sorted({row.axes[axis] for row in rows if _is_number(row.axes.get(axis))})
        if len(values) < EDGE_VALUES or value == 0 or value not in (values[0], values[-1]):
            continue
        which = "lowest" if value == values[0] else "highest"
        said.append(f"{axis} {short_number(value)} is the {which} tried: the best may lie beyond")
    return [f"{'' if place else 'edge':8}{line}" for place, line in enumerate(said)]


def _runs_text(best: Standing, second: Standing) -> str:
    if best.runs == second.runs == 1 and not best.confirmed:
        return "one run each: the noise between seeds is not known"
    kind = "fresh seeds" if best.confirmed and second.confirmed else "seeds"
    return f"means of {best.runs} and {second.runs} {kind}"


def _confirmed_lines(summary: SweepSummary) -> list[str]:
    if summary.confirmation is None:
        return []
    return [f"{'confirm' if not place else '':8}{line}" for place, line in enumerate(summary.confirmation.lines())]


def _ended_lines(summary: SweepSummary) -> list[str]:
    parts = [plural(sum(summary.counts.values()), "cell")]
    names = {TrialState.COMPLETE: "ran to the end", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    for state, amount in summary.counts.items():
        parts.append(f"{amount} {names.get(TrialState(state), state)}")
    lines = [f"cells   {parts[0]}: {', '.join(parts[1:])}"]
    if summary.rules:
        by_rule = ", ".join(f"{amount} by {rule}" for rule, amount in _most_first(summary.rules))
        lines.append(f"pruned  {by_rule}")
    return [*lines, *_checked_lines(summary)]


def _checked_lines(summary: SweepSummary) -> list[str]:
    checked = summary.false_prunes
    lines = []
    if checked is not None:
        lines.append(
            f"checked {checked.false} of {plural(checked.trials, 'trial')} held back from a prune ended as good as the "
            f"best: {percent(checked.rate)} false prunes ({percent(checked.low)} to {percent(checked.high)})"
        )
    heads = ("        " if lines or place else "checked " for place in range(len(summary.suspended)))
    said = (f"{rule} prunes no longer, for {reason}" for rule, reason in summary.suspended.items())
    return lines + [head + line for head, line in zip(heads, said, strict=True)]


def _saved_lines(summary: SweepSummary) -> list[str]:
    if not summary.full_samples:
        return []
    unseen = summary.full_samples - summary.seen_samples
    return [
        f"saved   {percent(summary.saved_samples_share)} of the full grid's samples: "
        f"{count(unseen)} of {count(summary.full_samples)}",
        f"        about {duration(summary.saved_s)} of training, at each trial's own measured speed",
        f"spent   {duration(summary.spent_s)} in trials; {duration(summary.elapsed_s)} on the clock",
    ]


def _next_lines(summary: SweepSummary) -> list[str]:
    lines = []
    if summary.best is not None:
        lines.append(f"next    sweeper export {summary.sweep} --to yaml   best config, with provenance")
        if summary.confirmation is None and len(summary.standings) > 1:
            lines.append(f"        sweeper confirm {summary.sweep}   is the first really first?")
    else:
        lines.append(f"next    sweeper status {summary.sweep}   how each cell ended")
    lines.append(f"        sweeper ui {summary.sweep}   all trials, in the browser")
    return lines


def _doubt_lines(summary: SweepSummary) -> list[str]:
    """Say so where a pruned trial was better when it was ended than the winner is at its end."""
    row = summary.pruned_ahead
    if row is None:
        return []
    return [
        f"doubt   {row.name} was pruned at {count(row.samples_seen)} samples with a better {summary.objective}, "
        f"{number(row.objective)}"
    ]


def claim_lines(signals: Sequence[Evidence]) -> list[str]:
    """Say whether the paper's claims held among the trials that ran to their end; nothing without any."""
    claimed = {name: [each for each in signals if each.signal == name] for name in CLAIMS}
    lines = [_claim_line(name, found) for name, found in claimed.items() if found]
    return [("claims  " if place == 0 else "        ") + line for place, line in enumerate(lines)]


def _claim_line(signal: str, found: Sequence[Evidence]) -> str:
    said = f"{CLAIMS[signal]} early {signal} ends better"
    known = [(each.across, each.samples) for each in found if each.across is not None]
    if not known:
        trials = max(each.trials for each in found)
        return f"{said}: not enough evidence, {plural(trials, 'trial')} ran to the end"
    findings = Counter[str](each.finding(each.across) for each in found)
    told = ", ".join(f"{finding} at {amount}" for finding, amount in _most_first(findings))
    top, samples = max(known, key=lambda pair: abs(pair[0].value))
    interval = f"{top.value:+.2f} ({top.low:+.2f} to {top.high:+.2f})"
    return (
        f"{said}: {told} of {plural(len(found), 'milestone')}; rank correlation of higher with better up to {interval} "
        f"at {count(samples)} samples, {top.trials} finished trials"
    )


def _most_first(amounts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
