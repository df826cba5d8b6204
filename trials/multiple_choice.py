"""Multiple choice by likelihood: of all choices, the model picks the one it finds likeliest as its answer.

A choice is scored as the assistant's answer in the chat template, its end-of-turn token left out. Where all choices of
a question are one token, as letters are, one pass over the question scores them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from trials.batch import MicroBatch, micro_batch
from trials.choices import Question
from trials.data import TokenSet
from trials.engines.base import Engine
from trials.evaluate import by_set, sample_sums
from trials.gang import Gang
from trials.packing import Layout, plan
from trials.template import tokenise
from trials.written import last_run

Tokens = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ChoiceRows:
    """All choices of all sets as rows of tokens; outputs are numbered by set, question and choice."""

    tokens: TokenSet
    """A row for each choice, or for each question whose choices are one token each."""
    first_output: NDArray[np.int64]
    """The output that a row's first choice is, [row]."""
    num_outputs: NDArray[np.int64]
    """How many choices a row scores, [row]."""
    last_tokens: NDArray[np.int64]
    """Last token of each choice, [output]."""
    lengths: NDArray[np.int64]
    """Tokens of each choice, [output]."""


class ChoiceTest:
    """All multiple-choice sets, laid out once for all milestones."""

    def __init__(
        self,
        sets: Mapping[str, Sequence[Question]],
        config: EvalConfig,
        tokenizer: Any,
        *,
        max_tokens: int,
        layout: Layout,
        gang: Gang,
    ) -> None:
        """Tokenise and lay out.

        Raises:
            InputError: the chat template rejects a question, or a choice has no tokens of its own.
        """
        self._sets, self._mean, self._gang = sets, config.choice_score == "mean", gang
        self._rows = choice_rows([question for one in sets.values() for question in one], tokenizer)
        data = self._rows.tokens
        everything = np.arange(len(data))
        inputs = data.lengths - 1
        planned = plan(inputs, max_tokens=max(max_tokens, int(inputs.max())), ranks=gang.world_size, layout=layout)
        batches = (micro_batch(data, everything, rows[gang.rank]) for rows in planned)
        self._batches = tuple(_all_choices(batch, self._rows).to(gang.device) for batch in batches)

    def scores(self, engine: Engine) -> dict[str, float]:
        """Return ``multiple_choice/SET/SUBJECT``, the share of a subject's questions that are answered right;
        ``multiple_choice/SET``, the mean over its subjects; ``multiple_choice``, the mean over sets.

        A question with a likelihood that is not finite is not answered right.
        """
        losses, _ = sample_sums(engine, self._batches, len(self._rows.lengths), self._gang)
        likelihoods = -losses / self._rows.lengths if self._mean else -losses
        scores: dict[str, float] = {}
        means, output = [], 0
        for name, questions in self._sets.items():
            right: dict[str, list[bool]] = {}
            for question in questions:
                found = likelihoods[output : output + len(question.choices)]
                output += len(found)
                is_right = np.isfinite(found).all() and int(found.argmax()) == question.right
                right.setdefault(question.subject, []).append(bool(is_right))
            shares = {subject: float(np.mean(one)) for subject, one in right.items()}
            if len(shares) > 1:
                scores |= {f"multiple_choice/{name}/{subject}": share for subject, share in shares.items()}
            means.append(float(np.mean(list(shares.values()))))
        return scores | by_set("multiple_choice", tuple(self._sets), means)


def choice_rows(questions: Sequence[Question], tokenizer: Any) -> ChoiceRows:
    """Return the choices of all questions as rows of tokens; raises as ``ChoiceTest`` does."""
    rows: list[tuple[Tokens, int]] = []
    """Tokens of each row, and where its choice begins."""
    first_output: list[int] = []
    num_outputs: list[int] = []
    last_tokens: list[int] = []
    lengths: list[int] = []
    chats = [
        (question.where, [*question.asked, {"role": "assistant", "content": choice}])
        for question in questions
        for choice in question.choices
    ]
    samples = tokenise(tokenizer, chats)
    special = set(tokenizer.all_special_ids)
    for question in questions:
        found = [_choice_tokens(next(samples), special, question.where) for _ in question.choices]
        output = len(lengths)
        lengths += [len(tokens) - start for tokens, start in found]
        last_tokens += [int(tokens[-1]) for tokens, _ in found]
        is_shared = all(np.array_equal(tokens[:-1], found[0][0][:-1]) for tokens, _ in found)
        if is_shared and set(lengths[output:]) == {1}:
            rows.append(found[0])
            first_output.append(output)
            num_outputs.append(len(found))
        else:
            rows += found
            first_output += range(output, output + len(found))
            num_outputs += [1] * len(found)
    return ChoiceRows(
        _token_set(rows),
        np.array(first_output, dtype=np.int64),
        np.array(num_outputs, dtype=np.int64),
        np.array(last_tokens, dtype=np.int64),
        np.array(lengths, dtype=np.int64),
    )


def _choice_tokens(sample: Any, special: set[int], where: str) -> tuple[Tokens, int]:
    """Return a chat's tokens up to the end of its last answer's text, and where that text begins."""
    start, end = last_run(sample.loss_mask)
    ends = [position for position in range(start, end) if int(sample.tokens[position]) in special]
    end = min([end, *ends])
    if end == start:
        raise InputError("a choice has no tokens besides special ones", where=where)
    return sample.tokens[:end], start


def _token_set(rows: Sequence[tuple[Tokens, int]]) -> TokenSet:
    masks = [np.arange(len(tokens)) >= start for tokens, start in rows]
    return TokenSet(
        np.concatenate([tokens for tokens, _ in rows]),
        np.concatenate(masks),
        np.cumsum([0, *(len(tokens) for tokens, _ in rows)], dtype=np.int64),
        np.array([mask.sum() for mask in masks], dtype=np.int32),
    )


def _all_choices(batch: MicroBatch, rows: ChoiceRows) -> MicroBatch:
    """Return the micro-batch with samples numbered as outputs, and each slot repeated for every choice it scores."""
    if not batch.num_tokens:
        return batch
    row_n = batch.sample_n.numpy()
    repeats = rows.num_outputs[row_n]
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    output = np.repeat(rows.first_output[row_n], repeats) + within
    own = np.repeat(batch.targets_n.numpy(), repeats)
    targets = np.where(np.repeat(repeats > 1, repeats), rows.last_tokens[output], own)
    return replace(
        batch,
        kept_n=torch.from_numpy(np.repeat(batch.kept_n.numpy(), repeats)),
        targets_n=torch.from_numpy(targets),
        sample_n=torch.from_numpy(output),
    )
