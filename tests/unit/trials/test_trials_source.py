"""A model folder is checked before anything is loaded from it."""

import json
import shutil
from pathlib import Path

import pytest
from trial_cases import save_model

from sweeper.core.config import ModelConfig
from sweeper.core.errors import InputError
from trials.source import check_model, model_folder


@pytest.fixture
def folder(model_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "model"))


def test_facts_come_from_the_files_alone(folder: Path) -> None:
    from safetensors.numpy import load_file

    facts = check_model(folder, None)
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.parameters == sum(value.size for value in load_file(folder / "model.safetensors").values())


@pytest.mark.parametrize(
    ("missing", "rule"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer*", "has no tokenizer"),
        ("chat_template.jinja", "no chat template.*set model.chat_template"),
    ],
)
def test_what_is_missing_is_named(folder: Path, missing: str, rule: str) -> None:
    for file in folder.glob(missing):
        file.unlink()
    with pytest.raises(InputError, match=f"model.path: .*{rule}"):
        check_model(folder, None)


def test_a_template_of_ones_own_replaces_the_missing_one(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").rename(tmp_path / "own.jinja")
    check_model(folder, str(tmp_path / "own.jinja"))
    with pytest.raises(InputError, match=r"model.chat_template: there is no such file"):
        check_model(folder, str(tmp_path / "gone.jinja"))


def test_damaged_files_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match="is not a safetensors file"):
        check_model(folder, None)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"is not readable as JSON.*config.json"):
        check_model(folder, None)


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"a weights file is missing.*model-00002"):
        check_model(folder, None)


@pytest.mark.parametrize("path", ["/no/such/folder", "./nothing", "a/b/c"])
def test_a_missing_folder_is_no_hub_name(path: str) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        model_folder(ModelConfig(path=path))


def test_an_unreachable_hub_model_is_one_clear_message() -> None:
    with pytest.raises(InputError, match=r"model.path: is no local folder.*HF_TOKEN"):
        model_folder(ModelConfig(path="no-such-owner/no-such-model"))


def test_weights_of_a_bigger_model_are_counted_over_all_shards(tmp_path: Path) -> None:
    whole = check_model(save_model(tmp_path / "whole"), None).parameters
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    AutoTokenizer.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    assert check_model(tmp_path / "parts", None).parameters == whole
