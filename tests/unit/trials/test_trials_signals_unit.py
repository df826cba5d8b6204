"""The arithmetic of signals, on numbers whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trials.signals import GROUPS, Average, Signals, StepTotals, group_of


def totals(grad_norm: float = 1.0, parts: float = 0.0, parts_square: float = 0.0, **squares: float) -> StepTotals:
    return StepTotals.of(
        [0.0, grad_norm, *(squares.get(group, 0.0) for group in GROUPS), parts, parts_square, 1.0, 4.0]
    )


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("transformer.wte.weight", "embeddings"),
        ("transformer.wpe.weight", "embeddings"),
        ("lm_head.weight", "output_head"),
        ("embed_out.weight", "output_head"),
        ("model.layers.0.self_attn.q_proj.weight", "attention"),
        ("transformer.h.0.attn.c_attn.bias", "attention"),
        ("base_model.model.model.layers.0.self_attn.o_proj.lora_A.default.weight", "attention"),
        ("model.layers.0.self_attn.q_norm.weight", "norms"),
        ("model.layers.0.post_attention_layernorm.weight", "norms"),
        ("model.layers.3.pre_feedforward_layernorm.weight", "norms"),
        ("model.norm.weight", "norms"),
        ("transformer.h.0.ln_1.weight", "norms"),
        ("transformer.ln_f.bias", "norms"),
        ("model.layers.0.mlp.gate_proj.weight", "mlp"),
        ("transformer.h.0.mlp.c_fc.weight", "mlp"),
        ("model.layers.0.block_sparse_moe.experts.3.w1.weight", "mlp"),
        ("model.decoder.layers.0.fc1.weight", "mlp"),
        ("backbone.layers.0.mixer.in_proj.weight", "other"),
    ],
)
def test_parameters_are_grouped_by_name(name: str, group: str) -> None:
    assert group_of(name) == group


@given(st.floats(-1e6, 1e6), st.integers(1, 50), st.floats(0.0, 0.999))
def test_the_average_of_a_constant_is_that_constant(value: float, count: int, kept: float) -> None:
    average = Average()
    for _ in range(count):
        average.add(value, kept)
    assert average.mean == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_averages_compare_between_batch_sizes() -> None:
    """The same curve over samples, seen in steps of 8 and of 64 samples, ends at nearly the same average."""
    ends = []
    for batch_size in (8, 64):
        signals = Signals(batch_size=batch_size, half_life_samples=1024)
        for seen in range(batch_size, 8193, batch_size):
            signals.add(10 - (seen - batch_size / 2) / 1000, totals())
        ends.append(signals.at_milestone()["loss_ema"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)
    assert ends[0] == pytest.approx(10 - 8.192 + 1.024 / math.log(2), rel=0.02), "lags by half-life / ln 2"


def test_the_average_restores_bit_for_bit() -> None:
    whole, first = Average(), Average()
    values = np.random.default_rng(0).normal(size=20).tolist()
    for value in values[:9]:
        first.add(value, 0.9)
    second = Average(first.state)
    for value in values:
        whole.add(value, 0.9)
    for value in values[9:]:
        second.add(value, 0.9)
    assert second.state == whole.state


def simulated(noise: float, steps: int, seed: int, batch_size: int = 64, parts: int = 4) -> Signals:
    """Feed steps with gradient (1, 0, ..., 0) and independent noise in 100 dimensions in each sample."""
    draw = np.random.default_rng(seed)
    signals = Signals(batch_size=batch_size, half_life_samples=1e9)
    for _ in range(steps):
        gradients = draw.normal(0, noise * math.sqrt(parts / batch_size), size=(parts, 100))
        gradients[:, 0] += 1
        square, parts_square = (gradients.mean(0) ** 2).sum(), (gradients**2).sum(1).mean()
        signals.add(1.0, totals(math.sqrt(square), parts, parts_square))
    return signals


def test_the_noise_scale_is_found_with_an_honest_error() -> None:
    exact = 100 * 0.5**2
    found = [simulated(0.5, 100, seed).at_milestone() for seed in range(60)]
    scales = np.array([extra["noise_scale"] for extra in found])
    errors = np.array([extra["noise_scale_error"] for extra in found])
    assert scales.mean() == pytest.approx(exact, rel=0.03)
    assert errors.mean() == pytest.approx(scales.std(), rel=0.35)


def test_a_noise_scale_that_cannot_be_told_is_absent() -> None:
    assert "noise_scale" not in simulated(0.5, 2, 0).at_milestone(), "too few estimates"
    drowned = [simulated(50.0, 10, seed).at_milestone() for seed in range(40)]
    assert sum("noise_scale" in extra for extra in drowned) <= 4, "|G|^2 is not told from 0"
    alone = Signals(batch_size=8, half_life_samples=100)
    for _ in range(10):
        alone.add(1.0, totals(parts=1, parts_square=1.0))
    assert "noise_scale" not in alone.at_milestone(), "one part says nothing of the scatter"


def test_an_exploded_trial_has_no_signals_that_are_not_numbers() -> None:
    signals = Signals(batch_size=8, half_life_samples=100)
    for _ in range(4):
        signals.add(math.nan, totals(math.nan, 2, math.nan, attention=math.nan))
    assert signals.at_milestone() == {"update_ratio": 0.5}


def test_group_norms_are_means_over_the_window() -> None:
    signals = Signals(batch_size=8, half_life_samples=100)
    signals.add(1.0, totals(5.0, attention=9.0, mlp=16.0))
    signals.add(1.0, totals(5.0, attention=25.0))
    found = signals.at_milestone()
    assert {k: v for k, v in found.items() if "/" in k} == {"grad_norm/attention": 4.0, "grad_norm/mlp": 2.0}
    signals.add(1.0, totals(1.0, mlp=1.0))
    assert "grad_norm/attention" not in signals.at_milestone()
