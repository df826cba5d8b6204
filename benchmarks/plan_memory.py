"""Calculated against counted memory of real training steps: ``python -m benchmarks.plan_memory [--only NAMES]``.

Every case trains a model with random weights for two optimizer steps on the real engine, in processes of its own. Every
tensor that an operator makes is followed until its storage is freed, so the peak is what an allocator would count,
without its rounding. The copy of the base weights that engines keep on the CPU is left out on both sides.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import sys
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeper.core.config import LoraConfig, TrainConfig
from sweeper.core.memory import phases
from sweeper.core.memory_engines import ZERO_BUCKET
from sweeper.core.memory_terms import PARTS, Load
from sweeper.core.shape import shape_of

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "quickstart 0.1M": ("llama", {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 512}),
    "llama 4M": ("llama", {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1024}),
    "qwen2 5M": ("qwen2", {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 8,
        "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 8192, "tie_word_embeddings": True}),
    "llama 22M": ("llama", {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 4,
        "num_attention_heads": 10, "num_key_value_heads": 2, "vocab_size": 4096}),
    "qwen3 60M": ("qwen3", {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 12, "head_dim": 64,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32768, "tie_word_embeddings": True}),
    "qwen2 0.5B": ("qwen2", {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration: ``samples`` samples of ``length`` tokens, ``share`` of them with loss, per micro-batch."""

    shape: str
    samples: int
    length: int
    share: float
    micro_batches: int = 1
    train: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> TrainConfig:
        settings = {"engine": "single"} | self.train
        batch = self.samples * self.micro_batches * settings.get("ranks", 1)
        return TrainConfig(batch_size=batch, learning_rate=1e-4, **settings)

    @property
    def load(self) -> Load:
        loss_tokens = self.samples * int(self.length * self.share)
        return Load(tokens=self.samples * self.length, loss_tokens=loss_tokens, micro_batches=self.micro_batches)

    def __str__(self) -> str:
        keys = ", ".join(f"{key} {value}" for key, value in self.train.items() if key != "lora")
        lora = f", LoRA {self.train['lora'].rank}" if "lora" in self.train else ""
        return f"{self.shape}, {self.samples} x {self.length}, loss {self.share}, x{self.micro_batches}, {keys}{lora}"


BF16 = {"precision": "bf16"}
CHECKPOINTED = {"activation_checkpointing": True}
FSDP = {"engine": "fsdp", "ranks": 2}
ZERO = {"engine": "deepspeed", "ranks": 2}
LORA = LoraConfig(rank=8)
CASES = (
    Case(shape="quickstart 0.1M", samples=32, length=32, share=0.3),
    Case(shape="llama 4M", samples=4, length=256, share=0.5),
    Case(shape="llama 4M", samples=8, length=512, share=0.2, micro_batches=2),
    Case(shape="llama 4M", samples=8, length=256, share=0.2, train=BF16),
    Case(shape="llama 4M", samples=8, length=512, share=0.2, train=CHECKPOINTED),
    Case(shape="qwen2 5M", samples=4, length=256, share=0.5),
    Case(shape="qwen2 5M", samples=4, length=256, share=0.2, train=BF16 | CHECKPOINTED),
    Case(shape="qwen2 5M", samples=8, length=256, share=0.3, train={"lora": LORA}),
    Case(shape="llama 22M", samples=4, length=256, share=0.3, train={"lora": LORA} | BF16),
    Case(shape="llama 22M", samples=8, length=128, share=0.3, train=FSDP),
    Case(shape="llama 22M", samples=8, length=128, share=0.3, micro_batches=2, train=FSDP | BF16),
    Case(shape="llama 22M", samples=8, length=128, share=0.3, train=FSDP | BF16 | CHECKPOINTED),
    Case(shape="llama 22M", samples=4, length=128, share=0.3, train=FSDP | {"cpu_offload": True}),
    Case(shape="llama 22M", samples=4, length=128, share=0.3, train=FSDP | {"ranks": 4, "shard_ranks": 2}),
    Case(shape="llama 4M", samples=8, length=256, share=0.3, train=FSDP | BF16),
    Case(shape="llama 22M", samples=4, length=128, share=0.3, train=ZERO | {"zero_stage": 1}),
    Case(shape="llama 22M", samples=4, length=128, share=0.3, train=ZERO | {"zero_stage": 2}),
    Case(shape="llama 22M", samples=4, length=128, share=0.3, train=ZERO | {"zero_stage": 3}),
    Case(shape="llama 22M", samples=4, length=128, share=0.3, train=ZERO | BF16 | {"zero_stage": 2}),
    Case(shape="llama 22M", samples=4, length=128, share=0.3, train=ZERO | BF16 | {"zero_stage": 3}),
    Case(shape="qwen3 60M", samples=4, length=128, share=0.5),
    Case(shape="qwen3 60M", samples=4, length=128, share=0.25, train=FSDP | BF16),
    Case(shape="qwen2 0.5B", samples=1, length=64, share=0.5),
    Case(shape="qwen2 0.5B", samples=1, length=128, share=0.5, train={"lora": LORA} | BF16),
)  # fmt: skip


def live_bytes() -> Any:
    """Return a mode that follows the bytes of all storages alive, those of operators inside autograd included."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    class LiveBytes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self._sizes: dict[int, int] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for tensor in tree_iter(made):
                self.add(tensor)
            if "resize_" in func.__name__:
                self.add(args[0])
            return made

        def add(self, tensor: object) -> None:
            if not isinstance(tensor, Tensor):
                return
            storage = getattr(tensor, "_local_tensor", tensor).untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            # An IPG bucket of DeepSpeed is allocated whole, whatever the model.
            if size == ZERO_BUCKET * tensor.element_size():
                return
            if key not in self._sizes:
                weakref.finalize(storage, self._gone, key).atexit = False
            self.now += size - self._sizes.get(key, 0)
            self._sizes[key] = size
            self.peak = max(self.peak, self.now)

        def _gone(self, key: int) -> None:
            self.now -= self._sizes.pop(key, 0)

    return LiveBytes()


def _follow_resizing(live: Any) -> None:
    """Have FSDP tell when it frees and refills the storage of a gathered weight, which is no operator."""
    from torch.distributed.fsdp._fully_shard import _fsdp_param

    def told(change: Any) -> Any:
        def changed(tensor: Any) -> None:
            change(tensor)
            live.add(tensor)

        return changed

    for name in ("alloc_storage", "free_storage"):
        setattr(_fsdp_param, name, told(getattr(_fsdp_param, name)))


def measure(case: Case, rank: int, port: int, answers: Any) -> None:
    """Train on this rank and put the peak in bytes into ``answers``."""
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "RANK": str(rank), "LOCAL_RANK": "0"}
    os.environ |= {"WORLD_SIZE": str(case.config.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from trials.gang import Gang, connect
    from trials.lora import add_adapters
    from trials.session import wrap

    torch.set_num_threads(1)
    train = case.config
    gang = Gang(rank=rank, world_size=train.ranks, device=torch.device("cpu"))
    connect(gang, f"tcp://127.0.0.1:{port}")
    family, sizes = SHAPES[case.shape]
    settings = CONFIG_MAPPING[family](**sizes)
    live = live_bytes()
    _follow_resizing(live)
    with live:
        model = AutoModelForCausalLM.from_config(settings).float()
        model.config.use_cache = False
        if train.lora is not None:
            add_adapters(model, train.lora)
        for tensor in [*model.parameters(), *model.buffers()]:
            live.add(tensor)
        engine = wrap(model, gang, train)
        engine.reset(train)
        del model
        batch = _batch(case, settings.vocab_size)
        live.peak = live.now
        for _ in range(2):
            loss = torch.zeros((), dtype=torch.float64)
            for index in range(case.micro_batches):
                is_last = index + 1 == case.micro_batches
                loss += engine.backward(batch, loss_tokens=batch.num_loss_tokens, is_last=is_last)
            engine.step(loss, learning_rate=1e-4, clip_norm=1.0, measure_update=True)
    kept = engine._base.parameters() if train.engine == "deepspeed" else engine._base.values()
    base = sum(tensor.untyped_storage().nbytes() for tensor in kept)
    if rank == 0:
        answers.put((live.peak - base, settings.to_json_string(use_diff=False)))


def _batch(case: Case, vocab: int) -> Any:
    from trials.batch import micro_batch
    from trials.data import TokenSet
    from trials.packing import plan

    lengths = np.full(case.samples, case.length + 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    loss = int(case.length * case.share)
    mask = np.zeros(offsets[-1], dtype=bool)
    for end in offsets[1:]:
        mask[end - loss : end] = True
    tokens = np.random.default_rng(0).integers(vocab, size=offsets[-1]).astype(np.int32)
    data = TokenSet(tokens, mask, offsets, np.full(case.samples, loss, dtype=np.int32))
    (rows,) = plan(lengths - 1, max_tokens=int(offsets[-1]), ranks=1)
    return micro_batch(data, np.arange(case.samples), rows[0])


def counted(case: Case) -> tuple[int, dict[str, Any]]:
    """Return the peak of rank 0 in bytes, and the model's config."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [context.Process(target=measure, args=(case, rank, port, answers)) for rank in range(case.config.ranks)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    if any(process.exitcode for process in ranks):
        raise RuntimeError(f"{case}: a rank failed")
    peak, config = answers.get(timeout=10)
    return peak, json.loads(config)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="parts of case names, separated by ';'")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(";") if name]
    errors = []
    for case in CASES:
        if wanted and not any(name in str(case) for name in wanted):
            continue
        peak, config = counted(case)
        shape = shape_of(config)
        assert shape is not None
        moments = phases(shape, case.config, case.load, "cpu")
        # On a CPU what is offloaded lies beside the rest; the base weights are counted on neither side.
        found = max(moments, key=lambda one: one.device + one.host)
        calculated = found.device + found.host
        error = calculated / peak - 1
        errors.append(error)
        parts = " ".join(f"{part[:5]} {getattr(found, part) / 1e6:.1f}" for part in PARTS if getattr(found, part))
        print(
            f"{error:+6.1%}  counted {peak / 1e6:8.1f}  calculated {calculated / 1e6:8.1f} MB  {case}  [{parts}]",
            flush=True,
        )
    inside = sum(abs(error) <= 0.1 for error in errors)
    print(f"{inside} of {len(errors)} within 10%; lowest {min(errors):+.1%}, highest {max(errors):+.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
