"""The learning rate as a pure function of the optimizer step.

Warmup is linear over ``warmup_steps`` steps: step i (from 0) takes (i + 1) / warmup_steps of the peak. So the first
step already moves the weights (with i / warmup_steps it would be taken at rate 0), and the last warmup step is taken
at the peak.
"""

from __future__ import annotations

import math

from sweeper.core.config import Schedule

WSD_DECAY_SHARE = 0.1
"""Share of all steps over which ``wsd`` decays."""


def learning_rate(schedule: Schedule, peak: float, *, step: int, total_steps: int, warmup_steps: int) -> float:
    """Return the rate of a 0-based step.

    ``linear`` and ``cosine`` fall from the peak at the first step after warmup towards 0, which they would reach at
    ``total_steps``: the last step still moves the weights. ``wsd`` does the same, linearly, over the last tenth.
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return peak * min(warm, _decay(schedule, step, total_steps, warmup_steps))


def _decay(schedule: Schedule, step: int, total_steps: int, warmup_steps: int) -> float:
    if schedule == "constant":
        return 1.0
    if schedule == "wsd":
        decay_steps = math.ceil(WSD_DECAY_SHARE * total_steps)
        return min(1.0, (total_steps - step) / decay_steps)
    left = min(1.0, (total_steps - step) / max(1, total_steps - warmup_steps))
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))
