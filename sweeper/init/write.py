"""The text of a first search space, with the reason beside each choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sweeper.core.figures import count
from sweeper.core.space import short_number
from sweeper.init.advice import Advice
from sweeper.init.layout import Layout


def space_text(
    *,
    name: str,
    model: str,
    train: str,
    test: str,
    facts: Mapping[str, Any],
    max_length: int,
    advice: Advice,
    layout: Layout,
    lora: bool,
    file: str,
) -> str:
    """Return the YAML of a search space that can be planned and run as it is."""
    samples = int(facts["train_samples"])
    steps = [-(-advice.epochs * samples // size) for size in advice.batch_sizes]
    longest = int(facts["longest_tokens"])
    keys = "".join(f"  {key}: {_plain(value)}\n" for key, value in layout.keys.items())
    cut = "truncate" if facts.get("truncated") or facts.get("dropped") else "refuse"
    return f"""\
# A first search space for {count(samples)} training samples of at most {count(longest)} tokens.
#
#   sweeper plan {file}      what it will cost; --from SWEEP once trials have run
#   sweeper run {file}
sweep: {name}

model: {{path: {_plain(model)}}}

data:
  train: {_plain(train)}
  test: {_plain(test)}    # the objective is measured here
  max_length: {max_length}                  # tokens, prompt and answer together
  over_long: {cut}                  # longer samples: refuse to start, truncate, or drop

train:
  # {layout.reason}; speed and memory depend on these keys, results do not
{keys}  epochs: {advice.epochs}
  schedule: constant                  # arXiv 2412.13337 found no gain from a decay
{"  lora: {rank: 16, alpha: 32}          # adapters in place of all weights" + chr(10) if lora else ""}  seed: 0

eval:
  milestones: 8                       # points at which trials are measured, and may be ended
  metrics: [heldout_loss]

objective: {{metric: heldout_loss}}

# Every combination is one trial.
grid:
  # Samples per optimizer step, {advice.batch_reason}.
  # {", ".join(map(count, steps))} optimizer steps in all.
  batch_size: [{", ".join(map(str, advice.batch_sizes))}]
  # From low to high: {advice.rate_reason}.
  # arXiv 2412.13337 found its best rates at the lower end of what it tried: if the first value wins, go lower.
  learning_rate: [{", ".join(map(_rate, advice.learning_rates))}]
  # Share of training; arXiv 2412.13337 lost nothing without warmup, and took 0.03 where it had one.
  warmup_ratio: [{", ".join(map(short_number, advice.warmup_ratios))}]

order: {{calibration: 4, seed: 0}}     # so many trials first run to their end: pruners learn from them
pruner: [calibrated]                 # risk 0.02: it may lose the best config in one sweep of fifty
"""


def _rate(value: float) -> str:
    text = short_number(value)
    # YAML takes 1e-5 for text unless told otherwise; with a dot every reader takes it for a number.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _plain(value: Any) -> str:
    """Return a value as YAML; JSON's form of text, numbers and flags is YAML too."""
    return json.dumps(value) if not isinstance(value, str) or not value.isidentifier() else value
