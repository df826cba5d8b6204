"""The engine as a program: ``python -m trials``, with torch and transformers alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from trial_cases import chat, config, save_model, write_chats

from sweeper.core.config import fingerprint
from sweeper.core.decode import encode
from sweeper.core.measurement import Measurement
from trials.__main__ import main

ROOT = Path(__file__).parents[2]
SPY = """
import atexit, os, sys
FOREIGN = {"ray", "optuna", "mlflow", "rich", "datasets", "pyarrow", "deepspeed", "peft", "pandas", "sklearn", "trl"}
@atexit.register
def note():
    with open(os.environ["SPY_FILE"], "a") as file:
        file.write(" ".join(sorted(FOREIGN & set(sys.modules))) + "\\n")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("alone") / "model")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write_config(folder: Path, model: Path, **settings: Any) -> Path:
    """Write a config as an export does, with provenance beside it."""
    train, test = write_chats(folder / "train.jsonl", 24), write_chats(folder / "test.jsonl", 8, seed=1)
    plain = encode(config(model, train, {"held": test}, **({"milestones": 2} | settings)))
    file = folder / "trial.yaml"
    file.write_text(yaml.safe_dump({"sweeper_format": 1, **plain, "provenance": {"sweep": "s"}}))
    return file


def test_prepare_tells_what_is_there(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(write_config(tmp_path, model)), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["train_samples"] == 24
    assert facts["test"]["held"]["samples"] == 8
    assert facts["model"]["architecture"] == "LlamaForCausalLM"
    assert 0 < facts["loss_tokens"] < facts["train_tokens"]
    assert facts["longest_tokens"] * 24 >= facts["train_tokens"]
    assert len(facts["data_sha256"]) == 64


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ("data", r"train.jsonl:3: 'messages' must be a list of at least one message, got '[]'"),
        ("weights", "model.path: model folder has no weights"),
        ("key", "train.lerning_rate: unknown key, got 'lerning_rate' (did you mean 'learning_rate'?)"),
        ("limit", "train.max_tokens_per_rank: must hold the longest sample's"),
        ("yaml", "trial.yaml: is not YAML"),
    ],
)
def test_bad_input_is_one_message_and_code_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], break_it: str, message: str
) -> None:
    file = write_config(tmp_path, model)
    if break_it == "data":
        lines = [json.dumps(chat("q", "a"))] * 2 + ['{"messages": []}']
        (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    elif break_it == "weights":
        bare = tmp_path / "bare"
        bare.mkdir()
        (bare / "config.json").write_text("{}")
        file.write_text(file.read_text().replace(str(model), str(bare)))
    elif break_it == "key":
        file.write_text(file.read_text().replace("learning_rate:", "lerning_rate:"))
    elif break_it == "limit":
        file.write_text(file.read_text().replace("max_tokens_per_rank: 8192", "max_tokens_per_rank: 5"))
    else:
        file.write_text("{[")
    assert main(["prepare", str(file), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["error"]
    assert message in answer["error"]
    assert main([str(file)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert not list(tmp_path.glob("trial-*")), "nothing is written"


def test_prepare_of_cached_data_loads_neither_torch_nor_transformers(model: Path, tmp_path: Path) -> None:
    file = write_config(tmp_path, model)
    assert main(["prepare", str(file), "--json"]) == 0
    program = "import sys; from trials.__main__ import main; main(['prepare', sys.argv[1]]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not {"torch", "transformers", "datasets", "pyarrow"} & loaded


@pytest.mark.slow
def test_two_ranks_start_themselves_and_need_no_sweep_library(model: Path, tmp_path: Path) -> None:
    file = write_config(tmp_path, model, engine="fsdp", ranks=2)
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'spy'}:{ROOT}", "SPY_FILE": str(tmp_path / "spy.txt")}
    done = subprocess.run(
        [sys.executable, "-m", "trials", str(file), "--out", "result"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("heldout_loss") == 2
    assert (tmp_path / "spy.txt").read_text().split() == []
    lines = (tmp_path / "result" / "measurements.jsonl").read_text().splitlines()
    found = [Measurement.from_json(json.loads(line)) for line in lines]
    assert [one.samples_seen for one in found] == [16, 24]
    assert main([str(write_config(tmp_path, model))]) == 0
    (alone,) = tmp_path.glob("trial-*/measurements.jsonl")
    single = [Measurement.from_json(json.loads(line)) for line in alone.read_text().splitlines()]
    assert alone.parent.name == f"trial-{fingerprint(_read(file))}"
    assert [p.loss for one in found for p in one.series] == pytest.approx(
        [p.loss for one in single for p in one.series], rel=1e-5
    )


def _read(file: Path) -> Any:
    from trials.alone import read_config

    return read_config(file)
