"""What the report says in words. Every number comes from the record; nothing is claimed that it does not hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

from sweeper.core.closing import axes_text
from sweeper.core.figures import count, duration, number, percent, plural
from sweeper.core.record import SweepSummary
from sweeper.core.verdict import Verdict
from sweeper.report.costs import state_counts
from sweeper.report.curves import Curves
from sweeper.report.effects import Effect
from sweeper.report.findings import Finding
from sweeper.report.foretold import Scatter, correlation_text
from sweeper.report.grid import Panel
from sweeper.report.noise import Contest
from sweeper.report.record import SweepRecord

MOST_AXES: Final = 6
"""Axes up to which the first sentence names all values of the best config, and not only the config."""
FRESH: Final = (
    "The leaders ran again with the same fresh seeds each, and the runs that made them leaders are left out. The noise "
    "is what differs besides the means of leaders and seeds; each interval is for its pair alone."
)
STANDING: Final = {
    "finished": "This sweep has ended: every cell ran, was ended early, or could not run.",
    "running": "This sweep is still running: what stands here may change.",
    "interrupted": "This sweep was interrupted before all cells had ended: what stands here may change.",
    "recorded": "These are recorded learning curves: every trial ran to its end, and nothing was pruned.",
}


def lead_sentence(record: SweepRecord, found: Contest) -> str:
    """Say in one sentence for newcomers what came out."""
    cells = plural(len(record.grid), "configuration")
    if not found.contenders:
        return f"None of {cells} ran to its end with a finite {record.objective}, so there is no best one."
    best = found.contenders[0]
    told = axes_text(best.axes) if 0 < len(best.axes) <= MOST_AXES else best.name
    mean = f", the mean of {best.runs} seeds" if best.runs > 1 else ""
    said = f"Of {cells}, {told} came out best: {record.objective} {number(best.score)}{mean} ({record.goal})."
    said += {
        "ahead": " It lies ahead of the runner-up by more than the known noise.",
        "within noise": " Its lead over the runner-up is within the noise: take the two as equal.",
        "not known": " Each ran once, so nobody knows whether its lead would last with another seed.",
        "no runner-up": " Nothing else ran to its end, so there is nothing to compare it with.",
    }[found.answer]
    return said


def states_sentence(record: SweepRecord) -> str:
    """Say how the cells stand."""
    parts = [f"{amount} {name}" for name, amount in state_counts(record)]
    return f"{plural(len(record.grid), 'cell')}: {', '.join(parts)}."


def effect_text(finding: Finding) -> str:
    """Return the effect with its sign, and its unit where that is not the objective."""
    if finding.effect is None:
        return "-"
    unit = finding.unit if finding.unit in ("exponent", "correlation") else ""
    return f"{unit} {_signed(finding.effect.value)}".strip()


def interval_text(finding: Finding) -> str:
    """Return the interval of the effect; a dash where too few pairs tell one."""
    effect = finding.effect
    if effect is None or math.isinf(effect.low) or math.isinf(effect.high):
        return "-"
    return f"{_signed(effect.low)} to {_signed(effect.high)}"


def pairs_text(finding: Finding) -> str:
    """Return how many pairs, and how many settings lack the other side."""
    return f"{finding.pairs}" + (f", {finding.alone} without a partner" if finding.alone else "")


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value, 3)


def saved_sentences(record: SweepRecord) -> list[str]:
    """Say what was not trained on, and what that risked, as far as it is known."""
    summary = record.summary
    if not summary.full_samples:
        return ["No cell has a known size, so nothing can be said about a saving."]
    unseen, is_whole = summary.full_samples - summary.seen_samples, record.standing in ("finished", "recorded")
    word = "was not trained on" if is_whole else "has not been trained on so far"
    said = [
        f"{percent(summary.saved_samples_share)} of the full grid's {record.resource} {word}: {count(unseen)} of "
        f"{count(summary.full_samples)}."
    ]
    if summary.saved_s:
        said.append(
            f"Ending trials early spared about {duration(summary.saved_s)} of training, each at its own measured "
            f"speed; {duration(summary.spent_s)} were spent."
        )
    return said + _risk_sentences(summary)


def _risk_sentences(summary: SweepSummary) -> list[str]:
    if not summary.rules:
        return ["No trial was ended by a rule, so pruning cost the sweep nothing."]
    said, checked, ahead = [], summary.false_prunes, summary.pruned_ahead
    if checked is not None:
        said.append(
            f"{checked.false} of {plural(checked.trials, 'trial')} held back from a prune ended as good as the best: "
            f"{percent(checked.rate)} of prunes may be wrong (95% interval {percent(checked.low)} to "
            f"{percent(checked.high)})."
        )
    else:
        said.append("How often a prune was wrong was not checked: no held-back trial ran to its end (see hold_back).")
    if ahead is not None:
        said.append(
            f"Doubt: {ahead.name} was pruned at {count(ahead.samples_seen)} with a better {summary.objective} "
            f"({number(ahead.objective)}) than the winner has at its end."
        )
    said += [f"{rule} prunes no longer, for {reason}." for rule, reason in summary.suspended.items()]
    return said


def noise_sentences(record: SweepRecord, found: Contest) -> list[str]:
    """Say what the order of the leaders rests on."""
    if not found.contenders:
        return ["No trial ran to its end."]
    if record.summary.confirmation is not None:
        return [f"{line[:1].upper()}{line[1:]}." for line in record.summary.confirmation.lines()] + [FRESH]
    seeds = "between runs of one setting with other seeds, pooled over all that were repeated and taken as the same"
    basis = {
        "seeds": f"The noise is that {seeds} for all settings.",
        "seeds and test size": f"The noise is that {seeds} for all settings, together with the standard error of a "
        "share of right answers, from the number of questions.",
        "test size": "The noise is the standard error of a share of right answers, from the number of questions: what "
        "the test alone is uncertain by. All answered the same questions, so leads are known a little better than "
        "that; another seed may move a score further.",
        "unknown": "Each setting ran once, so the noise between seeds is not known and no lead can be trusted to last. "
        "Repeat the leaders with other seeds to find out.",
    }[found.kind]
    close = [each.name for each in found.contenders[1:] if each.is_within_noise]
    if found.answer in ("ahead", "within noise"):
        verdict = f"{found.contenders[0].name} is ahead of all others by more than the noise."
        if close:
            verdict = (
                f"{found.contenders[0].name} cannot be told from {', '.join(close)}: the lead is within the noise."
            )
        return [verdict, basis, "The best of many is partly the luckiest; these intervals do not count that."]
    return [basis]


def heatmap_sentence(record: SweepRecord, panel: Panel) -> str:
    """State the finding of one panel, as a screen reader needs it."""
    scored = [
        (slot.value, place)
        for place, slot in panel.slots.items()
        if slot.role in ("complete", "winner") and slot.value is not None
    ]
    where = f" at {panel.title}" if panel.title else ""
    rows = f" by {panel.down}" if panel.down else ""
    said = f"Heatmap of {record.objective} over {panel.across}{rows}{where}: "
    if not scored:
        return said + "no cell here ran to its end."
    value, (row, column) = (max if record.maximize else min)(scored)
    place = f"{panel.across} {panel.columns[column]}" + (f" and {panel.down} {panel.rows[row]}" if panel.down else "")
    ended = sum(slot.role in ("pruned", "guard") for slot in panel.slots.values())
    counts = f"{len(scored)} of {len(panel.slots)} ran to the end, {ended} ended early"
    return f"{said}best {number(value)} at {place}; {counts}."


def curves_sentence(record: SweepRecord, curves: Curves) -> str:
    """State what the learning curves show."""
    leaders = [line for line in reversed(curves.lines) if line.label]
    ended = [line for line in curves.lines if line.role in ("pruned", "guard")]
    said = f"{plural(len(curves.lines), 'learning curve')} of {curves.signal} over {record.resource}"
    if leaders:
        said += f"; {leaders[0].name} comes out best"
    if ended:
        at = statistics.median(line.curve.samples[-1] for line in ended)
        share = at / record.milestones[-1]
        said += f"; {len(ended)} were ended early, half of them by {percent(share)} of the way"
    if curves.outside:
        said += f"; {plural(curves.outside, 'curve')} leave the picture, so that the others can be told apart"
    return said + "."


def scatter_sentence(record: SweepRecord, scatter: Scatter) -> str:
    """State whether the early signal foretold the end."""
    said = f"{scatter.signal} at {count(scatter.samples)} {record.resource} against the final {record.objective} of "
    said += f"{plural(len(scatter.dots), 'trial')}: "
    found = scatter.evidence
    if found is None or found.across is None:
        return said + f"too few to say whether {scatter.claim}."
    finding = {
        "holds": f"{scatter.claim}, here too",
        "does not hold": f"the claim that {scatter.claim} does not hold here",
        "not enough evidence": f"not enough evidence that {scatter.claim}",
    }[found.finding(found.across)]
    return f"{said}rank correlation of higher with better {correlation_text(found.across)}; {finding}."


def importance_sentence(found: Sequence[Effect]) -> str:
    """Name the weightiest axis."""
    known = [effect for effect in found if effect.share is not None]
    if not known:
        return "Too few trials ran to their end to weigh the axes."
    first = known[0]
    assert first.share is not None
    return f"{first.axis} mattered most: its values alone explain {percent(first.share)} of the variance among finals."


def forecast_text(verdict: Verdict | None) -> str:
    """Return the final objective that a rule expected, low to high; a dash where it does not forecast."""
    forecast = None if verdict is None else verdict.predicted_final
    return " to ".join(number(value, 3) for value in (forecast[0], forecast[-1])) if forecast else "-"
