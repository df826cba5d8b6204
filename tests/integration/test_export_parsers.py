"""Each export is read by the target's own config class or schema, and what comes out is the sweep's trial.

axolotl, LLaMA-Factory, torchtune and training-hub pin versions that cannot live beside ours. Where their packages lie
in folders of their own (``pip install --no-deps --target``), name these in ``EXPORT_PACKAGES``; each is read in a
process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "export"))

from recipe_cases import recipe

from sweeper.export.draft import render
from sweeper.export.recipe import Recipe
from sweeper.export.targets import TARGETS

WARM = {"train.schedule": "constant", "train.warmup_steps": 6}
ADAPTERS = {"train.lora.rank": 8, "train.lora.target_modules": ["q_proj", "v_proj"]}
BENCH = "pip install 'sweeper[bench]'"
pytestmark = pytest.mark.slow


def written(target: str, found: Recipe, folder: Path) -> Path:
    """Write an export as the command does, and return its file."""
    draft = TARGETS[target].translate(found)
    file = folder / f"{target}.{'json' if TARGETS[target].syntax == 'json' else 'yaml'}"
    file.write_text(render(draft, TARGETS[target].syntax, ["Winner of sweep s: t"], file.name)[0])
    for path, body in draft.companions.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(body))
    return file


def read_elsewhere(package: str, program: str, file: Path) -> Any:
    """Return what a program prints as JSON in its last line; it runs where the target's packages are found."""
    folders = os.environ.get("EXPORT_PACKAGES", "")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [*folders.split(os.pathsep), os.environ.get("PYTHONPATH", "")])),
        "HF_HUB_OFFLINE": "1",
        "DISABLE_VERSION_CHECK": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    look = f"import importlib.util; raise SystemExit(importlib.util.find_spec({package!r}) is None)"
    known = subprocess.run([sys.executable, "-c", look], env=environment, check=False)
    if known.returncode:
        pytest.skip(f"{package} is not installed: pip install --no-deps --target DIR, and EXPORT_PACKAGES=DIR")
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        cwd=file.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_transformers_reads_its_arguments(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason=BENCH)
    from transformers import HfArgumentParser, TrainingArguments

    found = recipe({**WARM, "train.precision": "fp32", "train.engine": "single", "train.ranks": 1})
    (args,) = HfArgumentParser(TrainingArguments).parse_json_file(str(written("hf", found, tmp_path)))
    assert args.train_batch_size * args.gradient_accumulation_steps == 48
    assert (args.max_steps, args.learning_rate, args.lr_scheduler_type) == (40, 1e-3, "warmup_stable_decay")
    assert (args.get_warmup_steps(40), args.lr_scheduler_kwargs["min_lr_ratio"]) == (5, pytest.approx(1 / 6))
    assert (args.adam_beta1, args.adam_beta2, args.adam_epsilon) == (0.9, 0.95, 1e-8)
    assert (args.max_grad_norm, args.weight_decay, args.bf16, args.seed) == (1.0, 0.0, False, 0)


@pytest.mark.parametrize("sharded", ["fsdp", "deepspeed"])
def test_transformers_reads_the_sharding(sharded: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason=BENCH)
    from transformers import HfArgumentParser, TrainingArguments

    found = recipe({"train.engine": sharded, "train.precision": "fp32", "train.cpu_offload": True})
    (args,) = HfArgumentParser(TrainingArguments).parse_json_file(str(written("hf", found, tmp_path)))
    if sharded == "fsdp":
        assert args.fsdp_plugin_args["fsdp_version"] == 2
        assert args.fsdp_plugin_args["cpu_offload"]
    else:
        assert args.deepspeed["zero_optimization"]["offload_optimizer"]["device"] == "cpu"


def test_trl_reads_arguments_model_adapters_and_data(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason=BENCH)
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser
    from trl.trainer.utils import get_peft_config

    changes = {**WARM, **ADAPTERS, "train.precision": "fp32", "data.train": ["/a.jsonl", "org/chats[train_sft]"]}
    found = recipe({**changes, "train.engine": "single", "train.ranks": 1})
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    file = written("trl", found, tmp_path)
    _, args, model, data = parser.parse_args_and_config(["--config", str(file)], fail_with_unknown_args=True)
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 48
    assert (args.max_steps, args.max_length, args.assistant_only_loss, args.packing) == (40, 512, True, False)
    assert (args.lr_scheduler_kwargs["min_lr_ratio"], args.bf16, args.activation_checkpointing) == (
        pytest.approx(1 / 6),
        False,
        False,
    )
    assert (model.model_name_or_path, model.dtype) == ("/models/base", "float32")
    adapters = get_peft_config(model)
    assert (adapters.r, adapters.lora_alpha, adapters.target_modules) == (8, 32, {"q_proj", "v_proj"})
    assert [(each.path, each.data_files, each.split) for each in data.datasets] == [
        ("json", "/a.jsonl", "train"),
        ("org/chats", None, "train_sft"),
    ]


@pytest.mark.parametrize("engine", ["fsdp", "deepspeed", "single"])
def test_accelerate_reads_its_config_and_launches_by_it(engine: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason=BENCH)
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import launch_command_parser

    single = {"train.engine": "single", "train.ranks": 1}
    file = written("accelerate", recipe(single if engine == "single" else {"train.engine": engine}), tmp_path)
    config = ClusterConfig.from_yaml_file(str(file))
    assert (config.num_processes, config.mixed_precision) == (1 if engine == "single" else 2, "bf16")
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) <= known
    assert set(config.deepspeed_config) <= known


def test_deepspeed_reads_its_config(tmp_path: Path) -> None:
    import warnings

    pytest.importorskip("deepspeed", reason="pip install 'sweeper[deepspeed]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepspeed.runtime import lr_schedules
        from deepspeed.runtime.config import DeepSpeedConfig

        # Two ranks, which a process of its own does not have: it takes them from what it is told of the world.
        found = recipe({"train.schedule": "cosine", "train.warmup_steps": 6, "train.zero_stage": 3, "train.ranks": 1})
        config = DeepSpeedConfig(str(written("deepspeed", found, tmp_path)))
    assert config.train_micro_batch_size_per_gpu * config.gradient_accumulation_steps == config.train_batch_size == 48
    assert (config.gradient_clipping, config.zero_config.stage, config.optimizer_name) == (1.0, 3, "adamw")
    assert config.optimizer_params["betas"] == [0.9, 0.95]
    assert config.scheduler_name in lr_schedules.VALID_LR_SCHEDULES
    getattr(lr_schedules, config.scheduler_name)(_optimizer(), **config.scheduler_params)


def _optimizer() -> Any:
    import torch

    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)


AXOLOTL = """
import json, sys, yaml
from axolotl.utils.schemas.config import AxolotlInputConfig
plain = yaml.safe_load(open(sys.argv[1]))
names = set(AxolotlInputConfig.model_fields)
names |= {field.alias for field in AxolotlInputConfig.model_fields.values() if field.alias}
config = AxolotlInputConfig(**plain)
print(json.dumps({"unknown": sorted(set(plain) - names), **{k: getattr(config, k) for k in plain if k in names
    and isinstance(getattr(config, k, None), (int, float, str, bool, dict))}}, default=str))
"""


@pytest.mark.parametrize("changes", [WARM, ADAPTERS, {"train.engine": "deepspeed"}], ids=["warm", "lora", "deepspeed"])
def test_axolotl_validates_its_schema(changes: dict[str, Any], tmp_path: Path) -> None:
    found = read_elsewhere("axolotl", AXOLOTL, written("axolotl", recipe(changes), tmp_path))
    assert found["unknown"] == []
    assert found["micro_batch_size"] * found["gradient_accumulation_steps"] * 2 == 48
    assert (found["max_steps"], found["adam_beta2"], found["bf16"]) == (40, 0.95, True)


LLAMAFACTORY = """
import json, sys, types
from llamafactory.hparams.parser import read_args, get_train_args
sys.argv = ["llamafactory-cli", sys.argv[1]]
model, data, train, tune, _ = get_train_args(read_args())
sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # imported for its sound files alone
from llamafactory.data.parser import get_dataset_list
sets = get_dataset_list(data.dataset, data.dataset_dir)
print(json.dumps({"batch": train.per_device_train_batch_size * train.gradient_accumulation_steps,
    "steps": train.max_steps, "kwargs": train.lr_scheduler_kwargs, "scheduler": train.lr_scheduler_type,
    "cutoff": data.cutoff_len, "packing": data.packing, "files": [each.dataset_name for each in sets],
    "type": tune.finetuning_type, "alpha": tune.lora_alpha, "target": tune.lora_target, "beta2": train.adam_beta2}))
"""


def test_llama_factory_parses_its_arguments_and_finds_the_data(tmp_path: Path) -> None:
    changes = {**WARM, **ADAPTERS, "train.engine": "single", "train.ranks": 1, "train.precision": "fp32"}
    found = read_elsewhere("llamafactory", LLAMAFACTORY, written("llamafactory", recipe(changes), tmp_path))
    assert found == {
        **{"batch": 48, "steps": 40, "scheduler": "warmup_stable_decay", "cutoff": 512, "packing": False},
        **{"files": ["/data/train.jsonl"], "type": "lora", "alpha": 32, "target": ["q_proj", "v_proj"], "beta2": 0.95},
        "kwargs": {"num_decay_steps": 0, "decay_type": "linear", "min_lr_ratio": pytest.approx(1 / 6)},
    }


TORCHTUNE = """
import json, sys
from omegaconf import OmegaConf
from torchtune import config
cfg = OmegaConf.load(sys.argv[1])
missing = sorted(OmegaConf.missing_keys(cfg))
lora = "lora_" if "lora_rank" in cfg.model else ""
cfg.merge_with({"model": {"_component_": f"torchtune.models.qwen2.{lora}qwen2_0_5b"}})
tokenizer = {"_component_": "torchtune.models.qwen2.qwen2_tokenizer", "path": "v", "merges_file": "m"}
cfg.merge_with({"tokenizer": tokenizer})
cfg.merge_with({"checkpointer": {"model_type": "QWEN2", "checkpoint_files": ["model.safetensors"]}})
config.validate(cfg)
print(json.dumps({"missing": missing, **OmegaConf.to_container(cfg)}))
"""


@pytest.mark.parametrize("changes", [WARM, ADAPTERS], ids=["warm", "lora"])
def test_torchtune_finds_every_component_and_argument(changes: dict[str, Any], tmp_path: Path) -> None:
    found = read_elsewhere("torchtune", TORCHTUNE, written("torchtune", recipe(changes), tmp_path))
    assert found["missing"] == [
        *("checkpointer.checkpoint_files", "checkpointer.model_type", "model._component_", "tokenizer._component_")
    ]
    assert found["batch_size"] * found["gradient_accumulation_steps"] * 2 == 48
    assert (found["epochs"], found["max_steps_per_epoch"], found["optimizer"]["betas"]) == (2, None, [0.9, 0.95])


TRAINING_HUB = """
import json, sys
from training_hub import cli
from training_hub.algorithms import sft
seen = {}
def run_training(torch_args, train_args):
    seen.update(torch=torch_args.model_dump(), train=train_args.model_dump())
sft.run_training = run_training
sft.utils.ensure_messages_jsonl = lambda path, *rest, **named: path
sys.argv = ["thub", "sft", "--config", sys.argv[1]]
cli.main()
print(json.dumps(seen, default=str))
"""


def test_training_hub_hands_everything_to_instructlab(tmp_path: Path) -> None:
    found = read_elsewhere("training_hub", TRAINING_HUB, written("training-hub", recipe({"train.seed": 7}), tmp_path))
    train = found["train"]
    assert (train["effective_batch_size"], train["num_epochs"], train["max_seq_len"]) == (48, 2, 513)
    assert (train["adamw_betas"], train["adamw_eps"], train["random_seed"]) == ([0.9, 0.95], 1e-8, 7)
    assert found["torch"]["nproc_per_node"] == 2


def test_the_head_of_a_yaml_is_comments_and_its_numbers_are_numbers(tmp_path: Path) -> None:
    for target in ("trl", "axolotl", "llamafactory", "training-hub", "torchtune", "accelerate"):
        plain = yaml.safe_load(written(target, recipe({"train.learning_rate": 2e-5}), tmp_path).read_text())
        rates = [value for key, value in plain.items() if key == "learning_rate"]
        assert rates in ([], [2e-5])
