"""Signals of a trial, from the few numbers that each optimizer step brings to the host: arithmetic on floats alone.

A signal that is not a number is left out of a measurement: it could not be had, or the trial's loss says already
that it has exploded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

GROUPS: Final = ("embeddings", "attention", "mlp", "norms", "output_head", "other")
"""Kinds of parameters whose gradient norms are told apart."""

_PATTERNS: Final = (
    # Norms come first: they also sit inside attention (Qwen's ``q_norm``) and are named after it (Llama).
    ("norms", re.compile(r"norm|(^|\.)ln_\w+\.")),
    ("output_head", re.compile(r"(^|\.)(lm_head|embed_out|output)\.")),
    ("embeddings", re.compile(r"embed|(^|\.)wte\.|(^|\.)wpe\.")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|feed_forward|ffn|expert|moe|(^|\.)fc[12]\.")),
)
MIN_ESTIMATES: Final = 3
"""Fewest steps from which a noise scale is given; below, its own error is not known."""
MIN_SIGNIFICANCE: Final = 2.0
"""Standard errors by which the squared gradient must exceed 0: nearer to it, a ratio to it can be anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTotals:
    """What an optimizer step brings to the host, summed over ranks, in the order of ``Engine.step``'s vector."""

    loss_sum: float
    grad_norm: float
    group_squares: tuple[float, ...]
    """Squared gradient norm of each of ``GROUPS``."""
    parts: float
    """Micro-batches, over all ranks, whose own gradient was measured; 0 where none was."""
    parts_square: float
    """Mean squared norm of their gradients, each as if its loss tokens were all, weighted by their number."""
    update_square: float
    weights_square: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> StepTotals:
        """Read the vector of ``2 + len(GROUPS) + 4`` numbers."""
        loss_sum, grad_norm, *rest = numbers
        *squares, parts, parts_square, update_square, weights_square = rest
        assert len(squares) == len(GROUPS)
        return cls(
            loss_sum=loss_sum,
            grad_norm=grad_norm,
            group_squares=tuple(squares),
            parts=parts,
            parts_square=parts_square,
            update_square=update_square,
            weights_square=weights_square,
        )


def group_of(parameter: str) -> str:
    """Return the kind of a parameter by its name; one that nothing matches is ``other``."""
    return next((group for group, pattern in _PATTERNS if pattern.search(parameter)), "other")


def scatter(grad_norm: float, parts: float, parts_square: float, batch_size: int) -> float:
    """Return an unbiased estimate of tr(Sigma), the variance of one sample's gradient, from one step.

    The batch B is a disjoint union of K parts with gradients G_k, weighted w_k by loss tokens, so that G = sum w_k G_k.
    Then sum w_k |G_k|^2 - |G|^2 = sum w_k |G_k - G|^2, whose mean is tr(Sigma) (K - 1) / B for parts of like size.
    For equal parts of b = B / K samples this is S of McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1.
    """
    return (parts_square - grad_norm**2) * batch_size / (parts - 1)


class Average:
    """Debiased exponential moving average, with the standard error of its mean. Non-finite values stay in it."""

    def __init__(self, state: Sequence[float] = (0.0,) * 7) -> None:
        self._count, self._total, self._weight, self._weight_square, self._last, self._jumps, self._jump_weight = state

    @property
    def state(self) -> list[float]:
        """What ``Average`` goes on from, bit for bit."""
        return [
            *(self._count, self._total, self._weight, self._weight_square),
            *(self._last, self._jumps, self._jump_weight),
        ]

    @property
    def count(self) -> float:
        return self._count

    def add(self, value: float, kept: float) -> None:
        """Take a value; ``kept`` is the share of weight that earlier ones keep."""
        if self._count:
            # From one value to the next, so that a trend over the window does not pass for noise (von Neumann 1941).
            self._jumps = kept * self._jumps + (1 - kept) * (value - self._last) ** 2 / 2
            self._jump_weight = kept * self._jump_weight + (1 - kept)
        self._total = kept * self._total + (1 - kept) * value
        self._weight = kept * self._weight + (1 - kept)
        self._weight_square = kept**2 * self._weight_square + (1 - kept) ** 2
        self._last = value
        self._count += 1

    @property
    def mean(self) -> float:
        """The average with its true weights, so that a constant gives that constant from the first value on."""
        return self._total / self._weight if self._weight else math.nan

    @property
    def standard_error(self) -> float:
        """Error of ``mean``; NaN below two values."""
        if not self._jump_weight:
            return math.nan
        return math.sqrt(self._jumps / self._jump_weight * self._weight_square) / self._weight


def noise_scale(square: Average, scattered: Average, batch_size: int) -> dict[str, float]:
    """Return ``noise_scale`` tr(Sigma) / |G|^2 in samples and its standard error, or nothing where it cannot be told.

    The ratio of averages, never an average of ratios; |G|^2 is what the batch's squared norm holds beyond noise.

    Args:
        square: squared norms of the whole batch's gradient.
        scattered: estimates of tr(Sigma).
        batch_size: samples of the whole batch.
    """
    if min(square.count, scattered.count) < MIN_ESTIMATES:
        return {}
    trace, trace_error = scattered.mean, scattered.standard_error
    signal = square.mean - trace / batch_size
    signal_error = math.hypot(square.standard_error, trace_error / batch_size)
    if not (trace > 0 and signal > MIN_SIGNIFICANCE * signal_error and signal > 0):
        return {}
    error = math.hypot(square.mean * trace_error, trace * square.standard_error) / signal**2
    return {"noise_scale": trace / signal, "noise_scale_error": error}


class Signals:
    """The signals of one trial in progress."""

    def __init__(self, *, batch_size: int, half_life_samples: float) -> None:
        """Begin a trial. Averages forget by samples, so that trials of different batch sizes are smoothed alike."""
        self._batch_size = batch_size
        self._kept = 0.5 ** (batch_size / half_life_samples)
        self._averages = {name: Average() for name in ("loss", "grad_norm", "square", "scatter")}
        self._group_norms = [0.0] * len(GROUPS)
        self._steps = 0
        self._update_ratio = math.nan

    def add(self, loss: float, totals: StepTotals) -> None:
        """Take one optimizer step."""
        self._averages["loss"].add(loss, self._kept)
        self._averages["grad_norm"].add(totals.grad_norm, self._kept)
        self._averages["square"].add(totals.grad_norm**2, self._kept)
        if totals.parts >= 2:
            found = scatter(totals.grad_norm, totals.parts, totals.parts_square, self._batch_size)
            self._averages["scatter"].add(found, self._kept)
        for index, square in enumerate(totals.group_squares):
            self._group_norms[index] += math.sqrt(square)
        self._steps += 1
        self._update_ratio = _ratio(totals.update_square, totals.weights_square)

    def at_milestone(self) -> dict[str, float]:
        """Return all signals by name, and begin a new window. A group that is not trained has none."""
        averages = self._averages
        found = {"loss_ema": averages["loss"].mean, "grad_norm_ema": averages["grad_norm"].mean}
        found |= noise_scale(averages["square"], averages["scatter"], self._batch_size)
        found["update_ratio"] = self._update_ratio
        for group, norms in zip(GROUPS, self._group_norms, strict=True):
            found[f"grad_norm/{group}"] = norms / self._steps or math.nan
        self._group_norms = [0.0] * len(GROUPS)
        self._steps = 0
        return {name: value for name, value in found.items() if not math.isnan(value)}

    @property
    def state(self) -> dict[str, list[float]]:
        """What a checkpoint written between two windows has to hold."""
        return {name: average.state for name, average in self._averages.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from a ``state``; a signal that it lacks begins anew."""
        self._averages |= {name: Average(values) for name, values in state.items()}


def _ratio(square: float, of_square: float) -> float:
    return math.sqrt(square / of_square) if of_square > 0 else math.nan
