"""DeepSpeed ZeRO: optimizer state (stage 1), gradients (2) and parameters (3) partitioned over the gang.

Needs the extra ``deepspeed``. The optimizer is torch's AdamW, which needs none of DeepSpeed's compiled operators.
"""

from __future__ import annotations

import copy
import gc
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn import functional

from sweeper.core.config import Precision, TrainConfig
from sweeper.core.errors import InputError, OutOfMemory
from trials.attention import set_attention
from trials.base_weights import BaseWeights
from trials.batch import IGNORED, MicroBatch
from trials.engines.base import BYTES_PER_NAME
from trials.engines.blocks import checkpoint_activations
from trials.engines.live import lively
from trials.flops import work_of
from trials.gang import Gang
from trials.lora import fresh_adapter, is_adapter
from trials.model import Decode, Head
from trials.probe import PartProbe, group_squares, update_squares
from trials.signals import GROUPS, group_of

_TAG = "trial"


class DeepspeedEngine:
    """A ZeRO engine of the stage the trial's config names; built anew for every trial, in about a second."""

    def __init__(self, model: nn.Module, gang: Gang, precision: Precision, base: BaseWeights | None = None) -> None:
        """Take a model over, from which every trial gets a copy; ``base`` as ``load_base`` gave it with the model."""
        self.layout = set_attention(model, gang.device, precision).layout
        self.work = work_of(model)
        # ZeRO averages gradients over ranks; each rank's loss is already its part of the whole batch's.
        self._gradient_scale = float(gang.world_size)
        self._base, self._base_weights = model, base
        self._gang = gang
        self._precision = precision
        self._deepspeed = _import(gang)
        self._engine: Any = None

    def reset(self, train: TrainConfig) -> None:
        if self._base_weights is not None:
            self._base_weights.check()
        self._train = train
        # Before the old engine goes: its probe holds its parameters.
        self.probe = PartProbe(self._gang.device, self._gradient_scale)
        self._drop_engine()
        model = self._copied(train.seed)
        if train.activation_checkpointing:
            checkpoint_activations(model)
        model.to(self._gang.device)
        self._head = Head(model)
        optimizer = torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=train.learning_rate,
            betas=(train.adam_beta1, train.adam_beta2),
            eps=train.adam_eps,
            weight_decay=train.weight_decay,
        )
        with _quiet():
            self._engine, *_ = self._deepspeed.initialize(
                model=model, optimizer=optimizer, config=self._settings(train), dist_init_required=False
            )
        self._engine.train()
        self._stage = train.zero_stage
        self._groups = {parameter: group_of(name) for name, parameter in self._engine.module.named_parameters()}
        self.probe.watch(self._engine.module.parameters())

    def backward(self, batch: MicroBatch, *, loss_tokens: int, is_last: bool) -> Tensor:
        # A batch's number of micro-batches varies, so its border is told, not counted.
        self._engine.set_gradient_accumulation_boundary(is_last)
        with _quiet():
            logits = self._head.logits(self._engine, batch)
            loss = functional.cross_entropy(logits.float(), batch.targets_n, ignore_index=IGNORED, reduction="sum")
            with self.probe.part(batch, loss_tokens):
                self._engine.backward(loss * (self._gradient_scale / loss_tokens))
        return loss.detach().double()

    def step(self, loss_sum: Tensor, *, learning_rate: float, clip_norm: float, measure_update: bool = False) -> Tensor:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        parts = torch.cat([loss_sum[None], loss_sum.new_zeros(1), self._group_squares(), self.probe.totals()])
        totals = self._gang.sum(parts)
        with _quiet():
            self._engine.step()
        # DeepSpeed leaves the weights as they are when a gradient is not finite; it is reported all the same.
        overflow = self._engine.optimizer.overflow
        totals[1] = float("inf") if overflow else float(self._engine.get_global_grad_norm())
        if overflow or not measure_update:
            return torch.cat([totals, totals.new_full((2,), math.nan)])
        # ZeRO's own optimizer wraps torch's, which holds this rank's partitions in fp32.
        return torch.cat([totals, self._gang.sum(update_squares(self._engine.optimizer.optimizer, self._gang.device))])

    def recover(self, steps_done: int) -> None:
        """Build the engine anew: DeepSpeed has no way back from the middle of a pass.

        What was trained so far goes through files, the only form in which it gives away and takes all of its state.
        """
        if steps_done == 0:
            self.reset(self._train)
            return
        name = [tempfile.mkdtemp(prefix="sweeper-") if self._gang.rank == 0 else ""]
        dist.broadcast_object_list(name, src=0)
        folder = Path(name[0])
        try:
            if self._gang.any(not folder.is_dir()):
                raise OutOfMemory(
                    "out of memory in a micro-batch; to go on with smaller ones, engine deepspeed needs all ranks on "
                    f"one node, or a temporary folder that they share (TMPDIR), not {folder.parent}"
                )
            self.save(folder, None)
            self.reset(self._train)
            self.load(folder, steps_done)
            self._gang.any(False)
        finally:
            if self._gang.rank == 0:
                shutil.rmtree(folder, ignore_errors=True)

    @torch.no_grad()
    def logits(self, batch: MicroBatch) -> Tensor:
        self._engine.eval()
        with _quiet():
            logits = self._head.logits(self._engine, batch)
        self._engine.train()
        return logits

    @contextmanager
    def decoding(self) -> Iterator[Decode]:
        with _quiet(), self._head.decoding(self._engine.module, self._engine) as decode:
            self._engine.eval()
            yield decode
            self._engine.train()

    @property
    def state_bytes(self) -> int:
        # Master weights and two moments in fp32, and the weights in the model's own precision beside them.
        trained = [p for p in self._engine.module.parameters() if p.requires_grad]
        names = 4 * len(trained) * self._gang.world_size
        return 16 * sum(int(getattr(p, "ds_numel", p.numel())) for p in trained) + names * BYTES_PER_NAME

    def save(self, folder: Path, group: ProcessGroup | None) -> None:
        # Its own format, which it cannot write in the background without a compiled library.
        with _quiet():
            self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False, exclude_frozen_parameters=True)

    def load(self, folder: Path, steps_done: int) -> None:
        if not (folder / _TAG).is_dir():
            raise InputError("was not written by engine deepspeed", where=str(folder))
        with _quiet():
            self._engine.load_checkpoint(str(folder), tag=_TAG, load_module_strict=self._train.lora is None)

    def full_weights(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        whole = {}
        for name, value in self._engine.module.named_parameters():
            if value.requires_grad:
                whole[name] = safe_get_full_fp32_param(value).cpu()
            else:
                with self._deepspeed.zero.GatheredParameters([value], enabled=self._train.zero_stage == 3):
                    whole[name] = value.detach().to("cpu", copy=True)
        return whole if self._gang.rank == 0 else {}

    def _copied(self, seed: int) -> nn.Module:
        """Return the model with the base weights and fresh adapters on the device."""
        # What ``deepcopy`` finds here it takes as the copy: nothing is copied on the CPU on its way to a GPU.
        copies: dict[int, Any] = {}
        for name, parameter in self._base.named_parameters():
            begin = fresh_adapter(name, parameter.shape, seed) if is_adapter(name) else parameter
            held = lively(name, begin, self._precision, self._gang.device, copies=True)
            copies[id(parameter)] = nn.Parameter(held, requires_grad=parameter.requires_grad)
        return copy.deepcopy(self._base, copies)

    def _group_squares(self) -> Tensor:
        """Return this rank's part of each group's squared gradient norm; NaN where DeepSpeed keeps gradients elsewhere.

        To be called between the last ``backward`` and ``step``. ZeRO lists, partition by partition, the parameters and
        this rank's part of their averaged gradients in the same order.
        """
        zero = self._engine.optimizer
        members = zero.fp16_groups if self._stage == 3 else zero.params_in_partition
        gradients: list[Tensor] = []
        groups: list[str] = []
        for index, parameters in enumerate(members):
            found = zero.averaged_gradients.get(index)
            if found is None:
                return torch.full((len(GROUPS),), math.nan, dtype=torch.float64, device=self._gang.device)
            for parameter, gradient in zip(parameters, found, strict=False):
                gradients.append(gradient)
                groups.append(self._groups[parameter])
        norms = torch._foreach_norm(gradients, dtype=torch.float32) if gradients else []
        return group_squares(groups, norms, self._gang.device)

    def _settings(self, train: TrainConfig) -> dict[str, Any]:
        zero: dict[str, Any] = {"stage": train.zero_stage}
        if train.zero_stage == 3:
            zero["stage3_gather_16bit_weights_on_model_save"] = True
        if train.cpu_offload:
            place = {"device": "cpu", "pin_memory": self._gang.device.type == "cuda"}
            zero["offload_optimizer"] = place
            if train.zero_stage == 3:
                zero["offload_param"] = place
        return {
            # Samples are counted by the trial; DeepSpeed sees one optimizer step per effective batch.
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": train.clip_norm,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            # Its own for offloaded state would be compiled at first use.
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": self._precision == "bf16"},
            "steps_per_print": 10**9,
        }

    def _drop_engine(self) -> None:
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
            gc.collect()


def _import(gang: Gang) -> Any:
    """Return the package, set up so that nothing is compiled."""
    if gang.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("RANK", str(gang.rank))
    os.environ.setdefault("WORLD_SIZE", str(gang.world_size))
    os.environ.setdefault("LOCAL_RANK", "0")
    try:
        with _quiet():
            import deepspeed
    except ImportError as error:
        raise InputError(
            "engine deepspeed is not installed", where="train.engine", got="deepspeed", mend="pip install deepspeed"
        ) from error
    if gang.device.type == "cpu":
        # Its shared-memory collectives would be compiled at first use: a minute, and a stale lock if killed meanwhile.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    with _quiet():
        deepspeed.init_distributed(dist_backend="gloo" if gang.device.type == "cpu" else "nccl", verbose=False)
    return deepspeed


def _quiet() -> warnings.catch_warnings:
    """Hide the deprecation warnings of every collective (deepspeed 0.19 on torch 2.13)."""
    return warnings.catch_warnings(action="ignore")
