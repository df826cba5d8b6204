"""Training signals as inputs of the forecast, as far as the sweep's own trials support them; pure, minimised.

arXiv 2412.13337 reports that a higher early training loss and a lower early gradient norm go with a better final model.
That is a prior and no more: a signal whose rank correlation among the trials with a known end has the paper's direction
is used from one standard error of no correlation, any other from 1.96. The forecast then weighs its use against not
using it by marginal likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from sweeper.core.foretell import ranks
from sweeper.pruners.path import Floats, Path
from sweeper.pruners.statistics import rank_correlation

PAPER: Final[Mapping[str, float]] = {"train_loss": -1.0, "grad_norm": 1.0, "noise_scale": 0.0}
"""Sign of each signal's correlation with a minimised final objective by the paper; 0 where it says nothing."""
ERRORS_WITH_PAPER: Final = 1.0
ERRORS_AGAINST: Final = 1.96


def signal_gaps(paths: Sequence[Path], samples: float, finals: Floats) -> Floats | None:
    """Return squared differences of ranks, summed over the supported signals; None where none is.

    Args:
        paths: trials, those with a known end first.
        samples: where the signals are compared; one that not every trial logged there is not used.
        finals: how the first of them ended.
    """
    found = []
    for name, direction in PAPER.items():
        values = np.asarray([path.signal_at(name, samples) for path in paths])
        if np.all(np.isfinite(values)) and supported(values[: len(finals)], finals, direction):
            place = ranks(values) / len(values)
            found.append((place[:, None] - place[None]) ** 2)
    return np.sum(found, axis=0) if found else None


def supported(values: Floats, finals: Floats, direction: float) -> bool:
    """Return whether these trials support that the signal tells their end; ``direction`` is the paper's sign."""
    correlation = rank_correlation(list(zip(values.tolist(), finals.tolist(), strict=True)))
    errors = ERRORS_WITH_PAPER if correlation * direction > 0 else ERRORS_AGAINST
    return abs(correlation) * math.sqrt(max(len(finals) - 1, 0)) > errors
