"""What a trial reports at a milestone: the numbers that are judged, kept and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.core.decode import decode, encode


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPoint:
    """One optimizer step. Non-finite values are kept as they came."""

    step: int
    """Optimizer steps done, this one included."""
    samples_seen: int
    tokens_seen: int
    """Tokens fed so far, prompts included, padding excluded."""
    loss: float
    """Summed cross-entropy over the loss tokens of the whole effective batch, divided by their number."""
    grad_norm: float
    """Global L2 norm over all shards before clipping."""
    learning_rate: float
    """The rate this step was taken with."""
    seconds: float
    """Wall-clock seconds of this step."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further signals of this step, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A trial's state at its first optimizer step at or past a milestone."""

    milestone: int
    """Milestones passed, 1-based; one step of a large batch may pass several at once."""
    samples_seen: int
    """Exact count, at or past the milestone."""
    tokens_seen: int
    step: int
    """Optimizer steps done."""
    warmup_done: bool
    """Whether the learning rate had reached its peak before this measurement's window began."""
    train_loss: float
    """Mean loss over the steps since the previous measurement, weighted by loss tokens."""
    grad_norm: float
    """Mean pre-clip gradient norm over those steps."""
    scores: Mapping[str, float]
    """Held-out results by name: ``heldout_loss``, ``exact_match``, each also per set as ``exact_match/NAME``.

    A name without a set is the plain mean over all sets. A metric that was not measured at this milestone is missing.
    """
    train_s: float
    """Seconds of training since the trial began, evaluation left out."""
    eval_s: float
    """Seconds of evaluation since the trial began."""
    peak_memory_bytes: int
    """Highest memory of any rank so far: device memory on a GPU, resident set size on a CPU."""
    is_last: bool
    """Whether training has ended here by itself."""
    series: tuple[StepPoint, ...] = ()
    """Every optimizer step since the previous measurement."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further signals of the window, by name (``noise_scale``, ``update_ratio``, ``tokens_per_s``, ...)."""

    def signal(self, name: str) -> float | None:
        """Return a signal or score by name, or None where this measurement does not hold it."""
        if name in ("train_loss", "grad_norm"):
            return float(getattr(self, name))
        return self.scores.get(name, self.extra.get(name))

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; non-finite numbers are the strings NaN, Infinity, -Infinity."""
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Measurement:
        """Return the measurement that ``to_json`` wrote; raises ``DecodeError`` for anything else."""
        return decode(cls, plain)
