"""Signals against what they stand for, computed sample by sample."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_processes import in_gang
from signal_cases import Samples, check_step, one_step, sample_gradients
from trial_cases import config, save_model, write_chats

from sweeper.core.config import TrialConfig
from sweeper.core.decode import encode
from trials.packing import plan
from trials.session import TrialSession
from trials.signals import scatter

BATCH_SIZE, NUM_SAMPLES = 24, 160
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("signals")
    model = save_model(folder / "model", attention_bias=True)
    file = write_chats(folder / "train.jsonl", NUM_SAMPLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(folder / "cache"))
        yield config(model, file, batch_size=BATCH_SIZE, weight_decay=0.1, epochs=1.2, milestones=2)


@pytest.fixture(scope="module")
def samples(one: TrialConfig) -> Samples:
    return sample_gradients(one, NUM_SAMPLES)


def test_one_rank_measures_what_samples_say(one: TrialConfig, samples: Samples) -> None:
    cases = [{"engine": engine, "max_tokens_per_rank": 400} for engine in ("single", "fsdp")]
    for step in one_step(0, 1, "", encode(one), cases):
        check_step(samples, step)


def test_two_ranks_measure_what_samples_say(one: TrialConfig, samples: Samples) -> None:
    """One micro-batch a rank, so that a rank's own gradient is read before it is reduced; several; and a dummy."""
    cases = [{"engine": "fsdp", "max_tokens_per_rank": limit} for limit in (4000, 190)]
    cases.append({"engine": "fsdp", "max_tokens_per_rank": 51, "batch_size": 3})
    steps = in_gang(2, one_step, encode(one), cases)
    assert [len(parts) for _, parts, _ in steps] == [2, 6, 3]
    for step in steps:
        check_step(samples, step)


def estimated(samples: Samples, layout: str, mixed: bool) -> float:
    """Return the mean estimate of tr(Sigma) over many random batches in parts, divided by the exact one."""
    gradients, tokens, batch_size = samples.gradients, samples.loss_tokens, 64
    # The spread of what one sample adds to the batch's mean over tokens.
    residuals = (gradients - tokens[:, None] * gradients.sum(0) / tokens.sum()) / tokens.mean()
    exact = (residuals**2).sum() / (NUM_SAMPLES - 1)
    products = gradients @ gradients.T
    draw = np.random.default_rng(0)
    found = []
    for _ in range(200):
        chosen = draw.permutation(NUM_SAMPLES)[:batch_size]
        lengths = samples.lengths[chosen]
        limit = int(lengths.sum() * 0.55) if layout == "packed" else int(lengths.max()) * batch_size // 2
        planned = plan(lengths, max_tokens=limit, ranks=1, layout=layout, mixed=mixed)
        parts = [chosen[rows.samples] for (rows,) in planned]
        total = tokens[chosen].sum()
        square = products[np.ix_(chosen, chosen)].sum() / total**2
        parts_square = sum(products[np.ix_(part, part)].sum() / (tokens[part].sum() * total) for part in parts)
        found.append(scatter(square**0.5, len(parts), parts_square, batch_size))
    return float(np.mean(found) / exact)


def test_mixed_micro_batches_give_the_exact_scatter_of_samples(samples: Samples) -> None:
    """Padded rows by length, the first micro-batch holds the long samples: not a random part of the batch."""
    assert estimated(samples, "packed", mixed=True) == pytest.approx(1.0, abs=0.1)
    assert estimated(samples, "padded", mixed=True) == pytest.approx(1.0, abs=0.1)
    by_length = estimated(samples, "padded", mixed=False)
    print(f"micro-batches by length: {by_length:.2f} of the exact scatter")
    assert abs(by_length - 1.0) > 0.2


def train(one: TrialConfig, target: Path | None, source: Path | None) -> list[dict[str, float]]:
    session = TrialSession(rank=0, world_size=1, device="cpu")
    session.connect("env://")
    found = []
    try:
        session.start(one)
        if source is not None:
            session.load(source)
        while not session.is_over:
            measurement = session.advance()
            assert measurement is not None
            found.append(dict(measurement.extra))
            if target is not None and not session.is_over:
                session.save(target)
    finally:
        session.close()
    return found


def test_a_resumed_trial_goes_on_with_its_averages(one: TrialConfig, tmp_path: Path) -> None:
    whole = train(one, tmp_path / "c", None)
    resumed = train(one, None, tmp_path / "c")
    for extra in (*whole, *resumed):
        assert extra.pop("data_wait_share") > 0
        assert extra.pop("cpu_cores") > 0
        assert extra.pop("tokens_per_s") > 0
        assert extra.pop("model_flops_per_s") > 0
        assert "mfu" not in extra, "a CPU has no peak"
    assert resumed == whole[1:]
    assert {"loss_ema", "grad_norm_ema", "update_ratio", "grad_norm/attention"} < set(resumed[0])
    assert "grad_norm/other" not in resumed[0]
