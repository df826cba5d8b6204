"""The same numbers on any layout, against a plain PyTorch loop that shares no code with the engines.

The reference feeds one sample at a time, unpadded and unpacked, through the model class itself.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_jobs import shard_sizes, train_each, try_deepspeed
from rank_processes import in_gang
from signal_cases import check_step, sample_gradients
from trial_cases import config, save_model, write_chats

from sweeper.core.config import TrialConfig
from sweeper.core.decode import encode
from trials.lora import fresh_adapter
from trials.packing import plan

STEPS, BATCH_SIZE, NUM_SAMPLES = 20, 12, 32
LEARNING_RATE, WARMUP_STEPS, CLIP_NORM = 3e-3, 4, 1.0
TOLERANCE = 1e-4
LAYOUTS = ("packed", "padded")
ACCUMULATIONS = (1, 2, 5)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("exact")
    return save_model(folder / "model"), write_chats(folder / "train.jsonl", NUM_SAMPLES)


@pytest.fixture(scope="module")
def samples(world: tuple[Path, Path]) -> list[tuple[list[int], list[int]]]:
    """Token ids and targets of every sample, by the meaning of the template instead of by the template."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(world[0])
    found = []
    for line in world[1].read_text().splitlines():
        ids: list[int] = []
        targets: list[int] = []
        for message in json.loads(line)["messages"]:
            mine = [*words.encode(message["content"]), 1]
            is_answer = message["role"] == "assistant"
            ids += [3 if is_answer else 2, *mine]
            targets += [-100, *(mine if is_answer else [-100] * len(mine))]
        found.append((ids, targets))
    return found


def batch(step: int) -> list[int]:
    stream = []
    for epoch in range(1 + (step + 1) * BATCH_SIZE // NUM_SAMPLES):
        keys = np.random.PCG64(np.random.SeedSequence([0, epoch])).random_raw(NUM_SAMPLES)
        stream += np.argsort(keys, kind="stable").tolist()
    return stream[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]


@pytest.fixture(scope="module")
def reference(world: tuple[Path, Path], samples: list[tuple[list[int], list[int]]]) -> np.ndarray:
    from transformers import LlamaForCausalLM

    points = plain_loop(LlamaForCausalLM.from_pretrained(world[0]), samples)
    assert (points[:, 1] > CLIP_NORM).any(), "no step is clipped"
    assert points[-1, 0] < 0.8 * points[0, 0], "nothing is learned"
    return points


@pytest.fixture(scope="module")
def lora_reference(world: tuple[Path, Path], samples: list[tuple[list[int], list[int]]]) -> np.ndarray:
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import LlamaForCausalLM

    wanted = LoraConfig(r=4, lora_alpha=60, target_modules="all-linear", task_type="CAUSAL_LM")
    model = inject_adapter_in_model(wanted, LlamaForCausalLM.from_pretrained(world[0]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = fresh_adapter(name, parameter.shape, seed=0)
    points = plain_loop(model, samples)
    assert points[-1, 0] < 0.97 * points[0, 0], "nothing is learned"
    return points


def plain_loop(model: Any, samples: list[tuple[list[int], list[int]]]) -> np.ndarray:
    """Return loss and gradient norm of each step, [step, 2]."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, foreach=False, fused=False
    )
    points = []
    for step in range(STEPS):
        chosen = [samples[i] for i in batch(step)]
        count = sum(target >= 0 for _, targets in chosen for target in targets)
        total = 0.0
        for ids, targets in chosen:
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(targets[1:]), reduction="sum")
            (loss / count).backward()
            total += loss.item() / count
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS)
        optimizer.step()
        optimizer.zero_grad()
        points.append((total, norm.item()))
    return np.array(points)


def tokens_for(samples: list[tuple[list[int], list[int]]], accumulation: int, ranks: int, layout: str) -> int:
    """Return a token limit at which a step takes ``accumulation`` micro-batches in the mean over all steps."""
    steps = [np.array([len(samples[i][0]) - 1 for i in batch(step)]) for step in range(STEPS)]
    longest = max(int(lengths.max()) for lengths in steps)

    def error(limit: int) -> float:
        found = [len(plan(lengths, max_tokens=limit, ranks=ranks, layout=layout)) for lengths in steps]
        return abs(float(np.mean(found)) - accumulation)

    return min(range(longest, sum(map(int, steps[0])) * 2, 5), key=error)


Kind = tuple[dict[str, object], int, str]


def trial(world: tuple[Path, Path], **settings: Any) -> TrialConfig:
    """Return the trial that the reference trains."""
    plain: dict[str, Any] = {
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "warmup_steps": WARMUP_STEPS,
        "clip_norm": CLIP_NORM,
        "epochs": STEPS * BATCH_SIZE / NUM_SAMPLES,
    }
    return config(*world, **(plain | settings))


def case(samples: list[tuple[list[int], list[int]]], ranks: int, kind: Kind) -> dict[str, object]:
    engine, accumulation, layout = kind
    return engine | {"layout": layout, "max_tokens_per_rank": tokens_for(samples, accumulation, ranks, layout)}


def check(kinds: list[Kind], curves: list[list[tuple[float, float]]], reference: np.ndarray, ranks: int) -> None:
    for (kind, accumulation, layout), curve in zip(kinds, curves, strict=True):
        assert len(curve) == STEPS
        loss, norm = (np.abs(np.array(curve) - reference) / np.abs(reference)).max(axis=0)
        print(f"{kind} x {ranks}, accumulation {accumulation}, {layout}: loss {loss:.1e}, gradient norm {norm:.1e}")
        assert max(loss, norm) <= TOLERANCE, (kind, accumulation, layout)


def compare(world, samples, reference: np.ndarray, ranks: int, kinds: list[Kind]) -> None:
    plain, cases = encode(trial(world)), [case(samples, ranks, kind) for kind in kinds]
    curves = train_each(0, 1, "", plain, cases) if ranks == 1 else in_gang(ranks, train_each, plain, cases)
    check(kinds, curves, reference, ranks)


def every(kind: dict[str, object], some: list[tuple[int, str]]) -> list[Kind]:
    """Return the engine with every accumulation and layout where the whole table is wanted, else with some."""
    pairs = product(ACCUMULATIONS, LAYOUTS) if os.environ.get("TRIALS_EXACT") == "all" else some
    return [(kind, accumulation, layout) for accumulation, layout in pairs]


def all_or(stages: tuple[int, ...]) -> tuple[int, ...]:
    return (1, 2, 3) if os.environ.get("TRIALS_EXACT") == "all" else stages


FEW = [(2, "packed"), (1, "padded")]
MORE = [*FEW, (5, "packed"), (5, "padded")]
AGAIN: dict[str, object] = {"train": {"activation_checkpointing": True}}
OFFLOADED: dict[str, object] = {"train": {"cpu_offload": True}}
LORA = {"train": {"lora": {"rank": 4, "alpha": 60}}}


def test_one_rank_agrees_with_a_plain_loop(world, samples, reference) -> None:
    compare(world, samples, reference, 1, every({"engine": "single"}, MORE) + every({"engine": "fsdp"}, FEW))


def test_two_ranks_agree_with_a_plain_loop(world, samples, reference) -> None:
    whole = {"engine": "fsdp", "wrap_blocks": False}
    compare(world, samples, reference, 2, every({"engine": "fsdp"}, MORE) + every(whole, FEW))


def test_bf16_compute_stays_near_the_fp32_loop(world, samples, reference) -> None:
    kinds: list[Kind] = [({"engine": engine, "precision": "bf16"}, 2, "packed") for engine in ("single", "fsdp")]
    for curve in train_each(0, 1, "", encode(trial(world)), [case(samples, 1, kind) for kind in kinds]):
        difference = np.abs(np.array(curve) - reference) / reference
        assert 1e-5 < difference[:, 0].max() < 0.02, "loss"
        assert difference[:, 1].max() < 0.1, "gradient norm"


def test_lora_agrees_with_a_plain_peft_loop(world, samples, lora_reference) -> None:
    compare(world, samples, lora_reference, 1, every(LORA | {"engine": "single"}, FEW))
    kinds = every(LORA | {"engine": "fsdp"}, FEW) + every(LORA | {"engine": "fsdp", "wrap_blocks": False}, FEW[:1])
    compare(world, samples, lora_reference, 2, kinds)


def test_recomputed_and_offloaded_trials_agree_with_a_plain_loop(world, samples, reference) -> None:
    compare(world, samples, reference, 1, every(AGAIN | {"engine": "single"}, FEW[:1]))
    kinds = every(AGAIN | {"engine": "fsdp"}, FEW) + every(OFFLOADED | {"engine": "fsdp"}, FEW)
    compare(world, samples, reference, 2, kinds)


def test_ranks_share_as_many_copies_as_they_are_told(world) -> None:
    assert len(set(in_gang(2, shard_sizes, encode(trial(world)), 1))) == 1
    held, all_of_them = in_gang(2, shard_sizes, encode(trial(world)), 2)
    assert held <= 0.51 * all_of_them


def test_four_ranks_agree_with_a_plain_loop(world, samples, reference) -> None:
    """Some of four ranks are without work in a step, and they shard the rows of a parameter unevenly."""
    hybrid: dict[str, object] = {"engine": "fsdp", "train": {"shard_ranks": 2}}
    compare(world, samples, reference, 4, every({"engine": "fsdp"}, FEW) + every(hybrid, FEW))


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the extra: pip install deepspeed")
def test_deepspeed_agrees_resumes_and_runs_trials_in_turn(world, samples, reference, lora_reference, tmp_path) -> None:
    """ZeRO agrees at every stage, resumes bit for bit, and leaves no trace of an exploded trial or of decoding."""
    few = {1: [(2, "packed")], 2: [(1, "padded")], 3: FEW}
    kinds = [case for stage in few for case in every({"engine": "deepspeed", "zero_stage": stage}, few[stage])]
    for saving, stages in ((AGAIN, (3,)), (OFFLOADED, (3,))):
        kinds += [(saving | {"engine": "deepspeed", "zero_stage": stage}, 2, "packed") for stage in all_or(stages)]
    adapted: list[Kind] = [(LORA | {"engine": "deepspeed", "zero_stage": stage}, 2, "packed") for stage in all_or((3,))]
    one = trial(world, engine="deepspeed", zero_stage=3, ranks=2, milestones=2)
    wild = trial(world, engine="deepspeed", zero_stage=2, ranks=2, learning_rate=1e30, clip_norm=0.0)
    written = one.eval.__class__(milestones=2, metrics=("exact_match", "answer_match"), max_new_tokens=6)
    private = {"engine": "deepspeed", "zero_stage": 3, "max_tokens_per_rank": one.train.max_tokens_per_rank}
    asked = replace(one, data=replace(one.data, test={"t": str(world[1])}), eval=written)
    curves, (whole, resumed), steps, (exploded, after, decoded) = in_gang(
        2,
        try_deepspeed,
        (encode(one), [*(case(samples, 2, kind) for kind in kinds + adapted), private]),
        (encode(one), str(tmp_path / "checkpoint")),
        ([encode(wild), encode(one), encode(asked)], str(tmp_path / "trained")),
        (encode(one), [{"zero_stage": stage, "max_tokens_per_rank": 150} for stage in (1, 2, 3)]),
    )
    check(kinds, curves[: len(kinds)], reference, 2)
    check(adapted, curves[len(kinds) : -1], lora_reference, 2)
    assert [list(point) for point in curves[-1]] == whole, "on weights of one's own as on those of the node"
    exact = sample_gradients(one, BATCH_SIZE)
    for found in steps:
        check_step(exact, found)
    assert resumed == whole[STEPS // 2 :]
    assert exploded[1][-1]["grad_norm"] == "Infinity"
    for _, measurements in (after, decoded):
        assert [[p["loss"], p["grad_norm"]] for m in measurements for p in m["series"]] == whole
    assert set(decoded[1][-1]["scores"]) == {"exact_match", "exact_match/t", "answer_match", "answer_match/t"}
    assert loss_of(tmp_path / "trained", samples) < 0.8 * loss_of(world[0], samples)


def loss_of(folder: Path, samples: list[tuple[list[int], list[int]]]) -> float:
    """Return the loss over all samples of a saved model."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return sum(
            model(input_ids=torch.tensor([ids]), labels=torch.tensor([targets])).loss.item() for ids, targets in samples
        )
