"""An export trains the quickstart model as the sweep did: batch, learning rates, steps, and the loss it comes to."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "export"))

from recipe_cases import recipe

from sweeper.core.config import TrialConfig
from sweeper.core.measurement import StepPoint
from sweeper.export.draft import render
from sweeper.export.recipe import Recipe
from sweeper.export.targets import TARGETS

SAMPLES = 3072
CHANGES: Mapping[str, Any] = {
    **{"model.path": "builtin:quickstart", "data.train": ["builtin:quickstart/train"], "data.max_length": 64},
    **{"train.batch_size": 128, "train.learning_rate": 2e-3, "train.schedule": "constant", "train.warmup_steps": 4},
    **{"train.epochs": 1.0, "train.precision": "fp32", "train.engine": "single", "train.ranks": 1},
    **{"eval.milestones": 2, "eval.metrics": [], "train.max_tokens_per_rank": 768},
}
LAST = 8
"""Steps at the end whose mean loss is compared: a third of all."""
pytestmark = [
    pytest.mark.slow,
    # What other trainers warn of is theirs.
    pytest.mark.filterwarnings("ignore"),
]


@dataclass
class Steps:
    """What a trainer did at each optimizer step."""

    rates: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def final(self) -> float:
        return statistics.fmean(self.losses[-LAST:])


def ours(config: TrialConfig) -> Steps:
    """Train with our own loop."""
    from trials.session import TrialSession

    session = TrialSession(rank=0, world_size=1)
    points: list[StepPoint] = []
    try:
        session.start(config)
        while not session.is_over:
            measured = session.advance()
            assert measured is not None
            points += measured.series
    finally:
        session.close()
    return Steps(
        rates=[point.learning_rate for point in points],
        samples=[config.train.batch_size] * len(points),
        losses=[point.loss for point in points],
    )


def watched(base: type, steps: Steps) -> type:
    """Return the trainer with its steps written down."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            steps.samples.append(0)

        def on_pre_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
            steps.rates.append(float(optimizer.param_groups[0]["lr"]))

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                steps.losses.append(float(logs["loss"]))

    class Watched(base):  # type: ignore[misc]
        def __init__(self, **named: Any) -> None:
            super().__init__(**named, callbacks=[Watch()])

        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
            steps.samples[-1] += len(inputs["input_ids"])
            return super().training_step(model, inputs, *rest, **named)

    return Watched


def trl(file: Path) -> Steps:
    """Train as ``trl sft --config FILE`` does, with the parts of its script."""
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_dataset

    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    script, args, model, data = parser.parse_args_and_config(["--config", str(file), *local(file)])
    args.model_init_kwargs = {"dtype": model.dtype}
    steps = Steps()
    watched(SFTTrainer, steps)(
        model=model.model_name_or_path, args=args, train_dataset=get_dataset(data)[script.dataset_train_split]
    ).train()
    return steps


def transformers(file: Path, config: TrialConfig) -> Steps:
    """Train as the notes of ``hf`` say: float32, the model's template, loss on the answers alone."""
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        HfArgumentParser,
        Trainer,
        TrainingArguments,
    )

    from trials.corpus import load_data
    from trials.source import model_folder

    (args,) = HfArgumentParser(TrainingArguments).parse_dict(json.loads(file.read_text()) | local_values(file))
    tokens, _ = load_data(config)
    rows = [
        {
            "input_ids": tokens.tokens[start:end].tolist(),
            "labels": [
                int(token) if counts else -100
                for token, counts in zip(tokens.tokens[start:end], tokens.loss_mask[start:end], strict=True)
            ],
        }
        for start, end in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    ]
    folder = model_folder(config.model)
    steps = Steps()
    watched(Trainer, steps)(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        args=args,
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(folder), label_pad_token_id=-100),
    ).train()
    return steps


def local_values(file: Path) -> dict[str, Any]:
    return {
        "use_cpu": True,
        "report_to": "none",
        "output_dir": str(file.parent / "out"),
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def local(file: Path) -> list[str]:
    """Return what keeps a run on this machine's CPU and in the test's folder."""
    return [part for key, value in local_values(file).items() for part in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def quickstart() -> Recipe:
    from trials.world import resolve

    found = recipe(CHANGES, samples=SAMPLES)
    object.__setattr__(found, "longest_tokens", 12)
    object.__setattr__(found, "places", {path: str(resolve(path)) for path in found.builtins})
    return found


@pytest.fixture(scope="module")
def seeds(quickstart: Recipe) -> list[Steps]:
    """Train with three seeds: how far apart do they end?"""
    return [ours(recipe({**CHANGES, "train.seed": seed}).config) for seed in range(3)]


@pytest.mark.parametrize("target", ["trl", "hf"])
def test_it_trains_to_the_same_loss(target: str, quickstart: Recipe, seeds: list[Steps], tmp_path: Path) -> None:
    pytest.importorskip("trl" if target == "trl" else "accelerate", reason="pip install 'sweeper[bench]'")
    draft = TARGETS[target].translate(quickstart)
    file = tmp_path / "winner"
    file.write_text(render(draft, TARGETS[target].syntax, ["Winner of sweep s: t"], file.name)[0])
    steps = trl(file) if target == "trl" else transformers(file, quickstart.config)

    assert steps.samples == [128] * 24, "every optimizer step takes the sweep's batch"
    assert quickstart.split.accumulation == 2, "several forward passes were to be added up"
    assert steps.rates == pytest.approx(seeds[0].rates, rel=1e-9)
    assert len(steps.losses) == len(seeds[0].losses) == 24
    finals = [each.final for each in seeds]
    # A fourth run of ours would lie within these 95% (Student's t with 2 degrees of freedom).
    width = 4.303 * statistics.stdev(finals) * (1 + 1 / 3) ** 0.5
    print(f"{target}: {steps.final:.4f}, ours {[round(final, 4) for final in finals]}, +- {width:.4f}")
    assert abs(steps.final - statistics.fmean(finals)) <= width
