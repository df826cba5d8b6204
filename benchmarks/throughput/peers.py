"""transformers' ``Trainer`` and TRL's ``SFTTrainer`` on the same tokens, from their own packages.

Their effective batch is exact in rows, so TRL's packing trains about ``batch_size`` samples a step, not exactly.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.throughput.setup import LEARNING_RATE, Setup, Stopwatch, Timing
from trials.batch import IGNORED


class _Clock(TrainerCallback):
    """Times the steps after warmup and counts the real tokens that the model is given in them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._watch = Stopwatch(setup.device)
        self._counts: list[torch.Tensor] = []

    def count(self, inputs: dict[str, Any]) -> None:
        mask = inputs.get("attention_mask")
        self._counts.append(torch.tensor(inputs["input_ids"].numel()) if mask is None else mask.sum())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._setup.warmup_steps:
            self._counts.clear()
            self._watch.start()
        if state.global_step == self._setup.warmup_steps + self._setup.steps:
            self._watch.stop()

    def timing(self) -> Timing:
        peak = torch.cuda.max_memory_allocated() if self._setup.device == "cuda" else 0
        tokens = sum(int(count) for count in self._counts)
        return Timing(
            tokens=tokens,
            seconds=self._watch.seconds,
            cpu_seconds=self._watch.cpu_seconds,
            peak_memory_bytes=peak,
        )


def _counting(base: type, clock: _Clock) -> type:
    class Counting(base):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
            clock.count(inputs)
            return super().training_step(model, inputs, *rest, **named)

    return Counting


def padded(setup: Setup) -> Timing:
    """Run ``Trainer`` with samples padded to the longest of their micro-batch."""
    rows = setup.rows_per_micro_batch(int(setup.tokens().lengths.max()))
    tokenizer = AutoTokenizer.from_pretrained(setup.folder)
    clock = _Clock(setup)
    with tempfile.TemporaryDirectory() as out:
        trainer = _counting(Trainer, clock)(
            model=AutoModelForCausalLM.from_pretrained(setup.folder, dtype=torch.float32),
            args=TrainingArguments(output_dir=out, **_arguments(setup, rows, setup.batch_size)),
            train_dataset=_dataset(setup),
            data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
            callbacks=[clock],
        )
        trainer.train()
    return clock.timing()


def trl_padded(setup: Setup) -> Timing:
    """Run ``SFTTrainer`` as it comes."""
    rows = setup.rows_per_micro_batch(int(setup.tokens().lengths.max()))
    return _trl(setup, rows, setup.batch_size, max_length=None)


def trl_padding_free(setup: Setup) -> Timing:
    """Run ``SFTTrainer`` with the samples of a micro-batch in one row."""
    rows = setup.rows_per_micro_batch(int(setup.tokens().lengths.mean()))
    return _trl(setup, rows, setup.batch_size, max_length=None, padding_free=True)


def trl_packing(setup: Setup) -> Timing:
    """Run ``SFTTrainer`` with samples packed best-fit into rows of a micro-batch's size, one row at a time."""
    return _packing(setup, setup.max_tokens_per_rank)


def trl_packing_short(setup: Setup) -> Timing:
    """Run ``SFTTrainer`` with samples packed best-fit into rows twice as long as the longest sample."""
    return _packing(setup, min(setup.max_tokens_per_rank, 2 * int(setup.tokens().lengths.max())))


def _packing(setup: Setup, row_length: int) -> Timing:
    lengths = setup.tokens().lengths
    rows_per_step = max(1, round(setup.batch_size * float(lengths.mean()) / row_length))
    return _trl(setup, 1, rows_per_step, max_length=row_length, packing=True)


def _trl(setup: Setup, rows: int, rows_per_step: int, **config: Any) -> Timing:
    from trl import SFTConfig, SFTTrainer

    clock = _Clock(setup)
    with tempfile.TemporaryDirectory() as out:
        trainer = _counting(SFTTrainer, clock)(
            model=AutoModelForCausalLM.from_pretrained(setup.folder, dtype=torch.float32),
            args=SFTConfig(output_dir=out, **_arguments(setup, rows, rows_per_step), **config),
            train_dataset=_dataset(setup),
            processing_class=AutoTokenizer.from_pretrained(setup.folder),
            callbacks=[clock],
        )
        trainer.train()
    return clock.timing()


def _arguments(setup: Setup, rows: int, rows_per_step: int) -> dict[str, Any]:
    rows = min(rows, rows_per_step)
    return {
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": max(1, round(rows_per_step / rows)),
        "max_steps": setup.warmup_steps + setup.steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "bf16": setup.precision == "bf16",
        "use_cpu": setup.device == "cpu",
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": setup.seed,
    }


def _dataset(setup: Setup) -> Dataset:
    data = setup.tokens()
    rows = []
    for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        ids = np.asarray(data.tokens[start:end], dtype=np.int64)
        labels = np.where(data.loss_mask[start:end], ids, IGNORED)
        rows.append({"input_ids": ids.tolist(), "labels": labels.tolist()})
    return Dataset.from_list(rows)
