"""FSDP2: parameters, gradients and optimizer state sharded over the gang, each block gathered when it is needed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from sweeper.core.config import Precision, TrainConfig
from sweeper.core.errors import OutOfMemory
from trials.base_weights import BaseWeights
from trials.batch import idle_batch
from trials.engines.blocks import transformer_blocks
from trials.engines.live import make_live
from trials.engines.single import SingleEngine
from trials.gang import Gang

SMALL_BLOCK_PARAMETERS = 1_000_000
"""Blocks below this are not wrapped one by one: their exchange would cost more than the memory it saves."""


class FsdpEngine(SingleEngine):
    """``fully_shard`` per transformer block, fp32 shards, compute in the trial's precision, reduction in fp32."""

    def __init__(
        self,
        model: nn.Module,
        gang: Gang,
        precision: Precision,
        base: BaseWeights | None = None,
        small_block_parameters: int = SMALL_BLOCK_PARAMETERS,
        *,
        checkpoints_activations: bool = False,
        offloads: bool = False,
        shard_ranks: int | None = None,
    ) -> None:
        """Shard a model.

        Args:
            offloads: keep shards, gradients and optimizer state on the CPU, where the optimizer runs.
            shard_ranks: ranks that share one copy of the parameters; None means all of the gang.
        """
        self._small_block_parameters = small_block_parameters
        self._offloads = offloads
        self._shard_ranks = shard_ranks or gang.world_size
        self._copies = gang.world_size // self._shard_ranks
        # fully_shard averages gradients over ranks; each rank's loss is already its part of the whole batch's.
        self._gradient_scale = float(gang.world_size)
        super().__init__(model, gang, precision, base, checkpoints_activations=checkpoints_activations)

    def reset(self, train: TrainConfig) -> None:
        self._keeps_whole_gradients = True
        self._forget_gathered()
        super().reset(train)

    def recover(self, steps_done: int) -> None:
        root = self._units[0]
        if not hasattr(root, "reset_iter_state"):
            raise OutOfMemory(
                "out of memory in a micro-batch; to go on with smaller ones, engine fsdp needs torch 2.13"
            )
        root.reset_iter_state()
        # Whole gradients kept between micro-batches are memory that smaller micro-batches would not give back.
        self._keeps_whole_gradients = False
        # Work without a gradient of its own brings what was kept so far to the shards, where it can be dropped.
        self.backward(idle_batch().to(self._gang.device), loss_tokens=1, is_last=True)
        super().recover(steps_done)

    def load(self, folder: Path, steps_done: int) -> None:
        self._forget_gathered()
        super().load(folder, steps_done)

    def full_weights(self) -> dict[str, Tensor]:
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self._model, options=options)
        return cast(dict[str, Tensor], weights) if self._gang.rank == 0 else {}

    def _forget_gathered(self) -> None:
        """Drop whole weights that an evaluation has left: they would hide what is written to the shards."""
        for module in self._units:
            module.reshard()

    def _share(self, model: nn.Module) -> nn.Module:
        shape: tuple[int, ...] = (self._gang.world_size,)
        if self._copies > 1:
            # Neighbours, on a cluster those of one node, share a copy.
            shape = (self._copies, self._shard_ranks)
        mesh = init_device_mesh(self._gang.device.type, shape, mesh_dim_names=("copy", "shard")[-len(shape) :])
        precision, offload = MixedPrecisionPolicy(), OffloadPolicy()
        if self._precision == "bf16":
            precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if self._offloads:
            offload = CPUOffloadPolicy(pin_memory=self._gang.device.type == "cuda")

        def shard(module: nn.Module) -> None:
            # One by one: a rank never holds more than its shards and one block. Sharding copies what it keeps.
            make_live(module, self._precision, self._gang.device, copies=False)
            fully_shard(module, mesh=mesh, mp_policy=precision, offload_policy=offload)

        for block in transformer_blocks(model):
            if sum(p.numel() for p in block.parameters()) >= self._small_block_parameters:
                shard(block)
        shard(model)
        self._units = [module for module in model.modules() if isinstance(module, FSDPModule)]
        return model

    def _watch(self) -> None:
        self.probe.watch_gathered(self._units)

    def _before_micro_batch(self, is_last: bool) -> None:
        root = self._units[0]
        exchanges = is_last or not self._keeps_whole_gradients
        root.set_requires_gradient_sync(exchanges)
        root.set_is_last_backward(exchanges)

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext()
