"""A verdict: what is to become of a trial, and why. Without a reason there is no verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sweeper.core.decode import decode, encode


class Decision(StrEnum):
    CONTINUE = "continue"
    PRUNE = "prune"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One decision about one trial at one point of the samples axis, with what it rests on."""

    decision: Decision
    rule: str
    """The rule that spoke, e.g. ``non_finite`` or ``early_dynamics``."""
    reason: str
    """One sentence for people, with the numbers that settled it."""
    samples_seen: int
    signals: Mapping[str, float] = field(default_factory=dict)
    """The trial's own values that were judged."""
    peers: Mapping[str, float] = field(default_factory=dict)
    """What they were compared with: a peer's or a statistic's name and its value."""
    threshold: float | None = None
    predicted_final: tuple[float, ...] | None = None
    """Low, middle and high of the forecast objective, where the rule forecasts."""

    def __post_init__(self) -> None:
        if not self.rule.strip() or not self.reason.strip():
            raise ValueError("a verdict needs a rule and a reason")

    @property
    def prunes(self) -> bool:
        return self.decision is Decision.PRUNE

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; non-finite numbers are strings."""
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Verdict:
        """Return the verdict that ``to_json`` wrote; raises ``DecodeError`` for anything else."""
        return decode(cls, plain)


def proceed(rule: str, reason: str, samples_seen: int, **details: Any) -> Verdict:
    """Return a verdict that lets the trial go on."""
    return Verdict(decision=Decision.CONTINUE, rule=rule, reason=reason, samples_seen=samples_seen, **details)


def prune(rule: str, reason: str, samples_seen: int, **details: Any) -> Verdict:
    """Return a verdict that ends the trial."""
    return Verdict(decision=Decision.PRUNE, rule=rule, reason=reason, samples_seen=samples_seen, **details)
