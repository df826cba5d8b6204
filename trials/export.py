"""A trained model as a folder that other programs load."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from sweeper.core.config import LoraConfig, ModelConfig, TrialConfig
from trials.gang import Gang
from trials.lora import merge, save_adapter
from trials.source import model_folder, tokenizer_files


def save_weights(weights: dict[str, Tensor], config: TrialConfig, folder: Path, gang: Gang) -> None:
    """Write configuration, safetensors and tokenizer on rank 0, whole or not at all; the others wait for it.

    Raises:
        FileExistsError: ``folder`` is there already and is not empty.
    """
    if gang.rank == 0:
        _write(weights, config.model, config.train.lora, folder)
    if gang.world_size > 1:
        dist.barrier()


def _write(weights: dict[str, Tensor], model: ModelConfig, lora: LoraConfig | None, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    base = model_folder(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=model.trust_remote_code, local_files_only=True)
        empty = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=model.trust_remote_code
        )
        empty.save_pretrained(unfinished, state_dict=weights if lora is None else merge(weights, lora))
        if lora is not None:
            save_adapter(weights, lora, str(base), unfinished / "adapter")
        for file in tokenizer_files(base):
            shutil.copy(file, unfinished / file.name)
        unfinished.chmod(0o755)
        os.replace(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
