"""Base weights that all ranks of a node share: bit for bit those of a rank that loads alone, whatever the model."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from base_weight_jobs import same_model, share_base
from rank_processes import in_gang
from trial_cases import config, save_model, write_chats

from sweeper.core.config import ModelConfig
from sweeper.core.decode import encode
from sweeper.core.errors import InputError
from trials.base_weights import load_base
from trials.gang import Gang
from trials.model import load_model
from trials.session import TrialSession

GANG = Gang(rank=0, world_size=1, device=torch.device("cpu"))
REMOTE = """
from transformers import LlamaForCausalLM

class FarLlama(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        {line}
"""


@pytest.fixture(scope="module", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def stored_as(folder: Path, dtype: torch.dtype, **settings: Any) -> Path:
    """Write a random Llama of a type."""
    from transformers import AutoModelForCausalLM

    save_model(folder, **settings)
    AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).save_pretrained(folder)
    return folder


def as_bin(folder: Path) -> Path:
    """Write a model in torch's own format."""
    model = load_model(save_model(folder), ModelConfig(path=str(folder))).bfloat16()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def of_class(folder: Path, family: str, **settings: Any) -> Path:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**(sizes | settings)))
    with torch.no_grad():
        model.get_input_embeddings().weight[3, :2] = torch.tensor([float("nan"), -0.0])
    model.bfloat16().save_pretrained(folder)
    return folder


def from_afar(folder: Path, line: str = "") -> Path:
    """Write a model that brings its own class."""
    save_model(folder)
    (folder / "modeling_far.py").write_text(REMOTE.format(line=line or "pass"), encoding="utf-8")
    plain = json.loads((folder / "config.json").read_text())
    plain["auto_map"] = {"AutoModelForCausalLM": "modeling_far.FarLlama"}
    (folder / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    return folder


def loaded(folder: Path, *, remote: bool = False) -> tuple[Any, Any, Any]:
    named = ModelConfig(path=str(folder), trust_remote_code=remote)
    model, base = load_base(folder, named, GANG)
    return model, base, load_model(folder, named)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_the_folders_own_files_are_the_base_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    model, base, alone = loaded(stored_as(tmp_path / "model", dtype))
    assert same_model(model, alone)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    nameless, *_ = base.files
    assert len(nameless.pages) < 30_000, "the model's structure alone, without its 22,048 weights"


@pytest.mark.parametrize(
    "make",
    [
        as_bin,
        lambda folder: stored_as(folder, torch.bfloat16, tie_word_embeddings=True),
        lambda folder: of_class(folder, "gpt2", n_embd=32, n_layer=2, n_head=4),
        lambda folder: of_class(folder, "gemma2", head_dim=8),
        # Stored expert by expert, and merged when they are loaded.
        lambda folder: of_class(folder, "mixtral", num_local_experts=2),
    ],
    ids=["bin", "tied", "gpt2", "gemma2", "mixtral"],
)
def test_any_model_begins_with_the_bits_that_it_is_loaded_with(tmp_path: Path, make: Any) -> None:
    model, base, alone = loaded(make(tmp_path / "model"))
    assert base.files
    assert same_model(model, alone)


def test_a_model_that_cannot_be_shared_is_loaded_all_the_same(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, base, alone = loaded(from_afar(tmp_path / "model", "self.scale = lambda x: x"), remote=True)
    assert not base.files
    assert same_model(model, alone)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert capsys.readouterr().err.count("base weights are not shared") == 1


def test_a_trial_never_begins_from_weights_that_were_written_to(tmp_path: Path) -> None:
    folder = stored_as(tmp_path / "model", torch.bfloat16)
    one = config(folder, write_chats(tmp_path / "train.jsonl", 8), milestones=1)
    session = TrialSession(rank=0, world_size=1, device="cpu")
    session.connect("")
    try:
        session.start(one)
        first = session.advance()
        # Replaced, it leaves a warm gang as it is: the old file stays while it is mapped.
        file = folder / "model.safetensors"
        (tmp_path / "new").write_bytes(file.read_bytes())
        old = os.open(file, os.O_RDWR)
        os.replace(tmp_path / "new", file)
        session.start(one)
        again = session.advance()
        assert first is not None
        assert again is not None
        assert [point.loss for point in first.series] == [point.loss for point in again.series]
        os.pwrite(old, b"\x00", os.fstat(old).st_size - 1)
        os.close(old)
        with pytest.raises(InputError, match=r"model\.path: weights were written to while trials were trained"):
            session.start(one)
    finally:
        session.close()


@pytest.mark.slow
def test_two_ranks_train_on_the_same_pages_what_they_train_on_their_own(tmp_path: Path) -> None:
    """Half-width, nameless and foreign files; full training and adapters, the second trial after a wild one."""
    half = stored_as(tmp_path / "half", torch.bfloat16)
    folders = [str(half), str(as_bin(tmp_path / "bin")), str(from_afar(tmp_path / "far"))]
    plain = config(half, write_chats(tmp_path / "train.jsonl", 16), milestones=1, epochs=2, batch_size=4)
    lora = {"lora": {"rank": 2}, "precision": "bf16"}
    cases: list[dict[str, Any]] = [{}, lora]
    shared, alone = in_gang(2, share_base, encode(plain), folders, str(tmp_path / "modules"), cases)
    for are_same, files in shared:
        assert are_same == [True, True]
        assert files[0] == files[1]
        assert files[0], "not shared at all"
    for cold, warm, own in alone:
        assert cold == warm == own
