"""What each rank of a gang does in the tests of base weights that a node shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rank_jobs import train_each

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode


def same_model(model: Any, own: Any) -> bool:
    """Tell whether two models are the same bit for bit, once the weights of the first are widened to fp32."""
    from trials.mapped import same_bits

    ours, theirs = (dict(one.named_parameters(remove_duplicate=False)) for one in (model, own))
    tied = [
        {name: next(n for n, p in all_.items() if p is each) for name, each in all_.items()} for all_ in (ours, theirs)
    ]
    buffers = [{name: each.tolist() for name, each in one.named_buffers()} for one in (model, own)]
    return (
        ours.keys() == theirs.keys()
        and tied[0] == tied[1]
        and all(same_bits(theirs[name].data, each.data) for name, each in ours.items())
        and all(each.requires_grad == theirs[name].requires_grad for name, each in ours.items())
        and buffers[0] == buffers[1]
        and model.config.to_dict() == own.config.to_dict()
        and model.generation_config.to_dict() == own.generation_config.to_dict()
        and model.training == own.training
    )


def share_base(
    rank: int, ranks: int, init_method: str, plain: dict[str, Any], folders: list[str], modules: str, cases: list[Any]
) -> Any:
    """Load each folder as a gang does, and train each case of engine fsdp on a session and on weights of one's own.

    Returns of each folder whether each rank's model is as if it had loaded alone, and which files each rank has mapped;
    of each case the curves of the first trial, of one after a wild one, and of the trial without a session.
    """
    import torch
    import transformers.dynamic_module_utils as remote

    from sweeper.core.config import ModelConfig
    from trials.base_weights import load_base
    from trials.gang import Gang, connect
    from trials.model import load_model

    remote.HF_MODULES_CACHE = modules
    gang = Gang(rank=rank, world_size=ranks, device=torch.device("cpu"))
    connect(gang, init_method)
    shared = []
    for folder in folders:
        named = ModelConfig(path=folder, trust_remote_code=True)
        model, base = load_base(Path(folder), named, gang)
        files = [file.identity for file in base.files]
        shared.append((gang.gather(same_model(model, load_model(Path(folder), named))), gang.gather(files)))
    curves = []
    for case in cases:
        train = {"engine": "fsdp", "ranks": ranks, "max_tokens_per_rank": 200} | case
        calm = plain | {"train": plain["train"] | train}
        wild = plain | {"train": calm["train"] | {"learning_rate": 1e3}}
        own = [
            {"engine": "fsdp", "max_tokens_per_rank": 200, "precision": train.get("precision", "fp32"), "train": case}
        ]
        alone = train_each(rank, ranks, init_method, plain, own, leave=False)[0]
        curves.append([*_curves(rank, ranks, [calm, wild, calm]), alone])
    torch.distributed.destroy_process_group()
    return shared, curves


def _curves(rank: int, ranks: int, plains: list[dict[str, Any]]) -> Any:
    from trials.session import TrialSession

    session = TrialSession(rank=rank, world_size=ranks, device="cpu")
    found = []
    for plain in plains:
        session.start(decode(TrialConfig, plain))
        found.append([])
        while not session.is_over:
            measurement = session.advance()
            found[-1] += [(point.loss, point.grad_norm) for point in measurement.series] if measurement else []
    return found[0], found[2]
