"""Checking prunes: a share of the condemned trials runs on, and their ends tell how often a prune is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sweeper.core.verdict import Decision, Verdict

PREFIX: Final = "held_back:"
"""Before the name of the rule in the verdict of a trial that would have been pruned."""
TIE: Final = 0.05
"""Share of the distance from the best to the median final that counts as a tie with the best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldBack:
    """Which condemned trials run on to their end."""

    share: float
    seed: int
    exempt: frozenset[str]
    """Rules that end any trial: the guards, for a broken trial teaches nothing by running on."""

    def apply(self, fingerprint: str, verdict: Verdict) -> Verdict:
        """Return what becomes of the trial: its verdict, or one that lets it go on where it is held back from a prune.

        Which trials are held back depends on fingerprint and seed alone, so a resumed sweep holds back the same.
        """
        if not verdict.prunes or verdict.rule in self.exempt or not self.chooses(fingerprint):
            return verdict
        reason = f"would have been pruned, and runs on to check the rule: {verdict.reason}"
        return dataclasses.replace(verdict, decision=Decision.CONTINUE, rule=PREFIX + verdict.rule, reason=reason)

    def chooses(self, fingerprint: str) -> bool:
        """Return whether this trial would be held back from a prune."""
        digest = hashlib.sha256(f"hold back {self.seed} {fingerprint}".encode()).hexdigest()
        return int(digest[:13], 16) < self.share * 16**13


@dataclass(frozen=True, kw_only=True, slots=True)
class FalsePrunes:
    """How many of the trials held back from a prune ended as good as the best."""

    trials: int
    """Held-back trials that ran to their end."""
    false: int
    low: float
    """Lower end of the 95% interval of the rate."""
    high: float

    @property
    def rate(self) -> float:
        return self.false / self.trials


def condemned_by(verdict: Verdict | None) -> str | None:
    """Return the rule that would have pruned the trial here; None where none did or the trial was not held back."""
    if verdict is None or not verdict.rule.startswith(PREFIX):
        return None
    return verdict.rule.removeprefix(PREFIX)


def false_prunes(finals: Mapping[str, float], held_back: Sequence[str], *, maximize: bool) -> FalsePrunes | None:
    """Return the rate of false prunes with its 95% interval; None where no held-back trial ran to its end.

    Args:
        finals: finite final objectives by trial, those of held-back trials among them.
        held_back: the trials that would have been pruned; those without a final are left out.
        maximize: whether higher finals are better.
    """
    ended = [key for key in held_back if key in finals]
    if not ended:
        return None
    sign = -1.0 if maximize else 1.0
    values = {key: sign * value for key, value in finals.items()}
    best, middle = min(values.values()), statistics.median(values.values())
    false = sum(values[key] - best <= TIE * (middle - best) for key in ended)
    low, high = wilson(false, len(ended))
    return FalsePrunes(trials=len(ended), false=false, low=low, high=high)


def contradiction(name: str, final: float, others: Sequence[float], *, maximize: bool) -> str | None:
    """Return why a held-back trial's end contradicts the rule that condemned it, or None where it does not.

    It does where the sweep would have lost its best config so far to the prune: no other final is a tie with it.
    """
    sign = -1.0 if maximize else 1.0
    own, known = sign * final, [sign * value for value in others]
    if not known or own >= min(known):
        return None
    unit = statistics.median([own, *known]) - own
    if min(known) - own <= TIE * unit:
        return None
    return f"{name}, held back from its prune, ended best of {len(known) + 1} with {final:.4g}"


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95% score interval of a rate: Wilson, "Probable inference", JASA 22 (1927), 209-212.

    Raises:
        ValueError: ``trials`` is below 1.
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    z, share = 1.959964, hits / trials
    centre = share + z**2 / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
