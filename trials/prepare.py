"""Check a trial's model and data, and tokenise all of it: everything that can be refused is refused here.

Loads no weights; once the tokens are cached, not even transformers or torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import asdict
from typing import Any

from sweeper.core.config import TrialConfig
from sweeper.core.errors import InputError
from sweeper.core.phases import phases_of
from trials.choices import read_sets
from trials.corpus import data_store, load_data
from trials.data import DataFacts
from trials.lengths import paper_facts, sketch
from trials.source import check_model, go_offline, local_path, model_folder


def prepare(config: TrialConfig, *, on_paper: bool = False) -> dict[str, Any]:
    """Return what the model and data of a config are, as a plain dict of numbers and names.

    ``on_paper`` takes what is enough to plan: a model folder may lack its weights, and without a tokenizer the lengths
    of samples are estimated from their text.

    Raises:
        InputError: model or data cannot be used; the message names the culprit.
    """
    if config.train.engine == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        raise InputError(
            "DeepSpeed is not installed", where="train.engine", got="deepspeed", mend="pip install 'sweeper[deepspeed]'"
        )
    if config.eval.lm_eval_tasks:
        check_harness()
    if config.train.lora is not None and importlib.util.find_spec("peft") is None:
        raise InputError("LoRA needs peft", where="train.lora", mend="pip install 'sweeper[lora]'")
    go_offline(config.model, config.data)
    model = check_model(model_folder(config.model), config.model.chat_template, on_paper=on_paper)
    if "tokenizer" in model.lacks:
        return paper_facts(config, model)
    store = data_store(config)
    train = [store.facts(path, split="train") for path in config.data.train]
    test = {name: store.facts(path, split="test") for name, path in config.data.test.items()}
    if not on_paper:
        _check_evaluation(config)
    longest = max(facts.longest_tokens for facts in train)
    if longest - 1 > config.train.max_tokens_per_rank:
        raise InputError(
            f"must hold the longest sample's {longest - 1} tokens",
            where="train.max_tokens_per_rank",
            got=config.train.max_tokens_per_rank,
        )
    phases = phases_of(config.data, [facts.samples for facts in train])
    return {
        "train_samples": sum(phase.samples for phase in phases),
        "phases": [asdict(phase) for phase in phases],
        "train_tokens": sum(facts.tokens for facts in train),
        "loss_tokens": sum(facts.loss_tokens for facts in train),
        "longest_tokens": longest,
        "truncated": sum(facts.truncated for facts in train),
        "dropped": sum(facts.dropped for facts in train),
        "train": [asdict(facts) for facts in train],
        "test": {name: asdict(facts) for name, facts in test.items()},
        "lengths": sketch([store.tokens(path, split="train") for path in config.data.train]),
        "model": asdict(model),
        "data_sha256": _digest(config, [*train, *test.values()]),
    }


def check_harness() -> None:
    """Raise InputError where lm-eval is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError("lm-eval is not installed", where="eval.lm_eval_tasks", mend="pip install 'sweeper[eval]'")


def _check_evaluation(config: TrialConfig) -> None:
    """Refuse test sets and questions that cannot be measured, before any gang is started for them."""
    if config.eval.multiple_choice:
        read_sets(config.eval)
    if "answer_match" in config.eval.all_metrics:
        from trials.model import load_tokenizer
        from trials.written import questions

        _, tests = load_data(config)
        cut = {name: one.head(config.eval.max_samples) for name, one in tests.items()}
        questions(cut, config.eval, load_tokenizer(model_folder(config.model), config.model))


def _digest(config: TrialConfig, sets: list[DataFacts]) -> str:
    files = [*config.eval.multiple_choice.values(), *config.eval.few_shot_from.values()]
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in map(local_path, files) if file is not None]
    return hashlib.sha256(json.dumps([*(facts.sha256 for facts in sets), *contents]).encode()).hexdigest()
