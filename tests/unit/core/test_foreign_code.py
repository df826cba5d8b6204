from __future__ import annotations

from sweeper.core.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from sweeper.core.foreign_code import foreign_code


def config(path: str, *, trusted: bool) -> TrialConfig:
    return TrialConfig(
        model=ModelConfig(path=path, trust_remote_code=trusted),
        data=DataConfig(train=("train.jsonl",)),
        train=TrainConfig(batch_size=8, learning_rate=1e-3),
    )


def test_every_model_whose_code_will_run_is_named_once() -> None:
    configs = [config("theirs/b", trusted=True), config("theirs/a", trusted=True), config("theirs/b", trusted=True)]
    configs.append(config("ours", trusted=False))
    assert foreign_code(configs) == "model.trust_remote_code is on: code that ships with theirs/a, theirs/b will run"
    assert foreign_code(configs[-1:]) == ""
