"""Answers that the model writes itself, compared with those of the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from trials.answers import final_answer
from trials.data import TokenSet
from trials.engines.base import Engine
from trials.evaluate import by_set, parts
from trials.gang import Gang
from trials.generate import greedy


@dataclass(frozen=True, slots=True)
class Questions:
    """The last question of every chat of all test sets, with its right answer."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    prompts: tuple[NDArray[np.int32], ...]
    """All tokens before the last answer; earlier answers stay in."""
    answers: tuple[str, ...]
    """Final answers by the config's rule."""
    ends: frozenset[int]
    """Tokens that end an answer: the tokenizer's end of text, and the special tokens that end answers in the sets."""


def questions(sets: Mapping[str, TokenSet], config: EvalConfig, tokenizer: Any) -> Questions:
    """Return what the samples of the test sets ask.

    Raises:
        InputError: an answer of the sets holds no final answer by the config's rule.
    """
    special = set(tokenizer.all_special_ids)
    ends = {tokenizer.eos_token_id} - {None}
    prompts: list[NDArray[np.int32]] = []
    answers: list[str] = []
    for name, data in sets.items():
        for index in range(len(data)):
            sample = slice(data.offsets[index], data.offsets[index + 1])
            tokens = data.tokens[sample]
            start, end = last_run(data.loss_mask[sample])
            ends |= {int(tokens[end - 1])} & special
            text = tokenizer.decode(tokens[start:end], skip_special_tokens=True)
            answer = final_answer(text, config.answer, config.answer_marker)
            if answer is None:
                raise InputError(
                    f"sample {index} of test set {name} has no final answer by this rule",
                    where="eval.answer",
                    got=config.answer,
                    mend=f"its answer ends in {text[-40:]!r}",
                )
            prompts.append(tokens[:start])
            answers.append(answer)
    sizes = tuple(len(data) for data in sets.values())
    return Questions(tuple(sets), sizes, tuple(prompts), tuple(answers), frozenset(ends))


def last_run(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return begin and end of the last unbroken run of marked tokens; at least one is marked."""
    end = int(np.flatnonzero(mask)[-1]) + 1
    gaps = np.flatnonzero(~mask[:end])
    return (int(gaps[-1]) + 1 if len(gaps) else 0), end


def answer_match(
    engine: Engine, asked: Questions, config: EvalConfig, tokenizer: Any, *, max_tokens: int, gang: Gang
) -> dict[str, float]:
    """Return the share of questions whose final answer is right, for each set and as their mean; same on every rank."""
    written = greedy(
        engine,
        asked.prompts,
        max_new_tokens=config.max_new_tokens,
        ends=asked.ends,
        max_tokens=max_tokens,
        gang=gang,
    )
    is_right = torch.zeros(len(asked.prompts), dtype=torch.float64, device=gang.device)
    for number, tokens in written.items():
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        is_right[number] = final_answer(text, config.answer, config.answer_marker) == asked.answers[number]
    shares = gang.sum(is_right).cpu().numpy()
    return by_set("answer_match", asked.names, [shares[part].mean() for part in parts(asked.sizes)])
