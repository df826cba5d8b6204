"""Planned against measured training time: ``python -m benchmarks.plan_time --data CHATS.jsonl [--shape 5m]``.

Trains a few cells one after another with the real session, learns the speed from one of them, and says how far the
planned time of the others is off. All in one process, and the calibration trial is run again at the end: where the
two differ, so much of the error is the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.derive import derive
from sweeper.core.micro_batch import Lengths, batches
from sweeper.core.roofline import Speed, Work, fit, work_of
from sweeper.core.shape import shape_of

SHAPES: dict[str, dict[str, Any]] = {
    "0.1m": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4},
    "5m": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 8, "num_attention_heads": 6},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="chats, JSONL")
    parser.add_argument("--samples", type=int, default=192, help="of the data's first; default: 192")
    parser.add_argument("--shape", choices=SHAPES, default="5m")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 8, 64], help="the first one calibrates")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("SWEEPER_CACHE", f"{folder}/cache")
        configs = _configs(Path(folder), options)
        configs.append(configs[0])
        _report([(config, *_trained(config)) for config in configs])
    return 0


def _report(rows: list[tuple[TrialConfig, dict[str, Any], float, float]]) -> None:
    from sweeper.core.accelerators import ACCELERATORS

    device = ACCELERATORS["cpu"]
    works = [_work(config, facts, device) for config, facts, _, _ in rows]
    for name, place in (("wall clock", 2), ("processor time", 3)):
        speed = fit([(works[0], float(rows[0][place]))], Speed(compute=1 / device.efficiency))  # type: ignore[arg-type]
        for row, work in zip(rows, works, strict=True):
            taken, planned = float(row[place]), speed.train_s(work)  # type: ignore[arg-type]
            print(
                f"{name}: batch {row[0].train.batch_size:>4}  planned {planned:6.1f} s  took {taken:6.1f} s  "
                f"{planned / taken - 1:+.0%}"
            )


def _work(config: TrialConfig, facts: dict[str, Any], device: Any) -> Work:
    shape, lengths = shape_of(facts["model"]["config"]), Lengths.of(facts)
    assert shape is not None
    assert lengths is not None
    train = config.train
    steps = derive(train, int(facts["train_samples"])).total_steps
    each = batches(lengths, batch_size=train.batch_size, ranks=1, max_tokens=train.max_tokens_per_rank, steps=steps)
    return work_of(shape, train, lengths, each, device, steps=steps, test_tokens=0, milestones=1)


def _trained(config: TrialConfig) -> tuple[dict[str, Any], float, float]:
    """Return the facts, and seconds of training by the clock and by the processor."""
    import time

    from trials.prepare import prepare
    from trials.session import TrialSession

    facts = prepare(config)
    session = TrialSession(rank=0, world_size=1, device="cpu")
    try:
        session.connect("env://")
        session.start(config)
        began = time.process_time()
        seconds = 0.0
        while not session.is_over:
            measurement = session.advance()
            assert measurement is not None
            seconds = measurement.train_s
        return facts, seconds, time.process_time() - began
    finally:
        session.close()


def _configs(folder: Path, options: argparse.Namespace) -> list[TrialConfig]:
    lines = options.data.read_text(encoding="utf-8").splitlines(keepends=True)[: options.samples]
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    _save_model(folder / "model", SHAPES[options.shape], folder / "train.jsonl")
    plain = {"model": {"path": str(folder / "model")}, "data": {"train": str(folder / "train.jsonl")}}
    train = {"learning_rate": 1e-4, "engine": "single", "max_tokens_per_rank": 4096, "batch_size": 1}
    config = decode(TrialConfig, {**plain, "train": train, "eval": {"milestones": 2}})
    return [replace(config, train=replace(config.train, batch_size=size)) for size in options.batch_sizes]


def _save_model(folder: Path, sizes: dict[str, Any], text: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=["<P>", "<E>", "<U>", "<A>"], initial_alphabet=alphabet, show_progress=False
    )
    chats = [json.loads(line)["messages"] for line in text.read_text(encoding="utf-8").splitlines()]
    raw.train_from_iterator((turn["content"] for chat in chats for turn in chat), trainer)
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}<A>{% generation %}{{ m['content'] + '<E>' }}"
        "{% endgeneration %}{% else %}<U>{{ m['content'] }}<E>{% endif %}{% endfor %}"
    )
    words = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<P>", eos_token="<E>", chat_template=template)
    settings = LlamaConfig(vocab_size=len(words), tie_word_embeddings=True, eos_token_id=1, pad_token_id=0, **sizes)
    LlamaForCausalLM(settings).save_pretrained(folder)
    words.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
