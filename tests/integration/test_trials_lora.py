"""LoRA in a session: fresh adapters per trial, checkpoints of adapters alone, and what is saved at the end."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_jobs import continue_trial, run_sessions
from rank_processes import in_gang
from trial_cases import config, save_model, write_chats

from sweeper.core.config import LoraConfig, ModelConfig
from sweeper.core.decode import encode
from sweeper.core.errors import InputError
from trials.engines.single import SingleEngine
from trials.gang import Gang
from trials.lora import add_adapters, fresh_adapter, merge
from trials.model import load_model


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lora")
    file = write_chats(folder / "train.jsonl", 30)
    lora = {"rank": 4, "alpha": 60, "target_modules": ["q_proj", "down_proj"]}
    one = config(save_model(folder / "model"), file, {"t": file}, epochs=2, milestones=2, lora=lora, learning_rate=1e-2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(folder / "cache"))
        yield encode(one)


def with_train(plain: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return plain | {"train": plain["train"] | settings}


def losses(measurements: list[dict[str, Any]]) -> list[float]:
    return [point["loss"] for one in measurements for point in one["series"]]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(4, 24).view(2, 10)).logits
    return found


def test_every_trial_begins_with_adapters_of_its_own_seed(plain: dict[str, Any]) -> None:
    seeds = [with_train(plain, seed=seed) for seed in (0, 1, 0)]
    first, other, again = (losses(found) for _, found in run_sessions(0, 1, "", seeds))
    assert first == again
    assert first != other


def test_saved_weights_are_merged_and_the_adapter_lies_beside_them(plain: dict[str, Any], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ((_, measured),) = run_sessions(0, 1, "", [plain], str(tmp_path / "one"))
    base = AutoModelForCausalLM.from_pretrained(plain["model"]["path"])
    before = logits(base)
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "one"))
    assert (merged - before).abs().max() > 0.01, "nothing was learned"
    with warnings.catch_warnings(action="ignore"):  # peft 0.21 reads an attribute that transformers 5.23 renamed
        adapted = logits(PeftModel.from_pretrained(base, tmp_path / "one" / "adapter"))
    torch.testing.assert_close(adapted, merged, atol=1e-5, rtol=0)
    assert losses(measured)[-1] < losses(measured)[0]


@pytest.mark.slow
def test_two_ranks_save_what_one_rank_saves(plain: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run_sessions(0, 1, "", [plain], str(tmp_path / "one"))
    in_gang(2, run_sessions, [with_train(plain, engine="fsdp", ranks=2)], str(tmp_path / "two"))
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("one", "two"))
    torch.testing.assert_close(logits(one), logits(two), atol=1e-5, rtol=0)


def test_a_checkpoint_holds_adapters_alone_and_resumes_bit_for_bit(plain: dict[str, Any], tmp_path: Path) -> None:
    from torch.distributed.checkpoint import FileSystemReader

    whole = continue_trial(0, 1, "", plain, "", str(tmp_path / "c"))
    assert continue_trial(0, 1, "", plain, str(tmp_path / "c"), None) == whole[len(whole) // 2 :]
    held = FileSystemReader(tmp_path / "c" / "engine").read_metadata().state_dict_metadata
    assert len(held) == 3 * 2 * 2 * 2, "weights and two moments of A and B, two layers a block, two blocks"
    assert all("lora_" in name for name in held)


def test_fresh_adapters_leave_the_model_as_it_was(plain: dict[str, Any]) -> None:
    path, lora = plain["model"]["path"], LoraConfig(rank=3)
    model = load_model(Path(path), ModelConfig(path=path))
    before, weights = logits(model), {name: value.clone() for name, value in model.state_dict().items()}
    add_adapters(model, lora)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = fresh_adapter(name, parameter.shape, seed=5)
    assert torch.equal(logits(model), before)
    merged = merge(model.state_dict(), lora)
    assert merged.keys() == weights.keys()
    assert all(torch.equal(merged[name], value) for name, value in weights.items())
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    assert not any("lm_head" in name for name, p in model.named_parameters() if p.requires_grad)


def test_adapted_weights_are_held_in_the_precision_of_compute(plain: dict[str, Any]) -> None:
    path = plain["model"]["path"]
    model = load_model(Path(path), ModelConfig(path=path))
    add_adapters(model, LoraConfig())
    SingleEngine(model, Gang(rank=0, world_size=1, device=torch.device("cpu")), "bf16")
    kinds = {
        (parameter.requires_grad, "base_layer" in name): parameter.dtype for name, parameter in model.named_parameters()
    }
    assert kinds == {(True, False): torch.float32, (False, True): torch.bfloat16, (False, False): torch.float32}


def test_layers_that_do_not_exist_are_refused(plain: dict[str, Any]) -> None:
    path = plain["model"]["path"]
    model = load_model(Path(path), ModelConfig(path=path))
    with pytest.raises(InputError, match=r"train\.lora\.target_modules: names no layer that can be adapted"):
        add_adapters(model, LoraConfig(target_modules=("qq_proj",)))
    with pytest.raises(InputError, match="only linear layers can be adapted"):
        add_adapters(load_model(Path(path), ModelConfig(path=path)), LoraConfig(target_modules=("embed_tokens",)))
