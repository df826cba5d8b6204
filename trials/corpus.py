"""The data of one config: its training set and its test sets, tokenised for its model."""

from __future__ import annotations

from typing import Any

from sweeper.core.config import TrialConfig
from trials.data import DataStore, TokenSet, join
from trials.source import model_folder


def load_data(config: TrialConfig) -> tuple[TokenSet, dict[str, TokenSet]]:
    """Return the tokenised training set and test sets, from the cache where they are there."""
    store = data_store(config)
    train = join([store.tokens(path, split="train") for path in config.data.train])
    return train, {name: store.tokens(path, split="test") for name, path in config.data.test.items()}


def data_store(config: TrialConfig) -> DataStore:
    """Return the store of this config's tokenised data."""
    folder = model_folder(config.model)

    def load() -> Any:
        from trials.model import load_tokenizer

        return load_tokenizer(folder, config.model)

    return DataStore(folder, config.model.chat_template, config.data, load)
