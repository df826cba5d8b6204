"""Greedy decoding with a cache of keys and values, in batches, every rank its share of the prompts.

All ranks run equally many forward passes, whoever is done first: where the model is sharded, a pass is a collective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trials.engines.base import Engine
from trials.gang import Gang
from trials.model import Decode

CACHED_SLOTS = 4
"""A slot in the cache of a 1.5B model takes 28 kB, a slot in training over 1 MB: so many times the token limit fit."""

Stop = Callable[[int, list[int]], bool]
"""Told a prompt's number and its answer so far, says whether the answer is complete."""


def greedy(
    engine: Engine,
    prompts: Sequence[NDArray[np.int32]],
    *,
    max_new_tokens: int,
    ends: frozenset[int],
    max_tokens: int,
    gang: Gang,
    stop: Stop | None = None,
) -> dict[int, list[int]]:
    """Return the answers to this rank's prompts by their number; over all ranks every prompt is answered once.

    The answers are those of transformers' ``generate`` for each prompt alone, up to ties within rounding: rows are
    padded on the left, and padding is masked.

    Args:
        prompts: token ids, each at least one.
        max_new_tokens: where an answer ends if nothing else ends it.
        ends: tokens that end an answer; not part of it.
        max_tokens: slots of one forward pass over prompts.
        stop: further reason to end an answer.

    An answer whose logits become NaN ends there.
    """
    answers: dict[int, list[int]] = {}
    if not prompts:
        return answers
    with engine.decoding() as decode:
        for share in waves([len(prompt) for prompt in prompts], max_new_tokens, max_tokens, gang.world_size):
            numbers = share[gang.rank]
            # A rank without work decodes one meaningless row.
            rows = [prompts[number] for number in numbers] or [np.zeros(1, dtype=np.int32)]
            wave = _Wave(numbers, rows, ends, stop, gang)
            wave.run(decode, max_new_tokens)
            answers.update(zip(numbers, wave.answers, strict=False))
    return answers


def waves(lengths: Sequence[int], max_new_tokens: int, max_tokens: int, ranks: int) -> list[list[list[int]]]:
    """Return which prompts each rank decodes together, [wave][rank]; the longest come first."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    result = []
    first = 0
    while first < len(order):
        longest = lengths[order[first]]
        rows = max(1, min(max_tokens // longest, CACHED_SLOTS * max_tokens // (longest + max_new_tokens)))
        group = order[first : first + ranks * rows]
        result.append([group[rank::ranks] for rank in range(ranks)])
        first += len(group)
    return result


class _Wave:
    """The rows that one rank decodes together."""

    def __init__(
        self,
        numbers: Sequence[int],
        prompts: Sequence[NDArray[np.int32]],
        ends: frozenset[int],
        stop: Stop | None,
        gang: Gang,
    ) -> None:
        self.answers: list[list[int]] = [[] for _ in prompts]
        self._numbers, self._prompts = numbers, prompts
        self._ends, self._stop, self._gang = ends, stop, gang
        self._is_open = [bool(numbers)] * len(prompts)

    def run(self, decode: Decode, max_new_tokens: int) -> None:
        """Decode until no row of any rank is open; all ranks leave at the same pass."""
        device = self._gang.device
        input_ids, is_real = (tensor.to(device) for tensor in left_padded(self._prompts))
        cache = None
        for _ in range(max_new_tokens):
            logits, cache = decode(input_ids, is_real, cache)
            tokens = logits.argmax(-1)
            self._take(torch.where(logits.isnan().any(-1), -1, tokens).tolist())
            if not self._gang.any(any(self._is_open)):
                return
            input_ids = tokens[:, None]
            is_real = torch.cat([is_real, is_real.new_ones(len(is_real), 1)], dim=1)

    def _take(self, tokens: Sequence[int]) -> None:
        for row, token in enumerate(tokens):
            if not self._is_open[row]:
                continue
            if token < 0 or token in self._ends:
                self._is_open[row] = False
                continue
            self.answers[row].append(token)
            if self._stop is not None and self._stop(self._numbers[row], self.answers[row]):
                self._is_open[row] = False


def left_padded(prompts: Sequence[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """Return the prompts flush right, and which slots hold tokens, both [R, T]."""
    width = max(len(prompt) for prompt in prompts)
    ids = np.zeros((len(prompts), width), dtype=np.int64)
    is_real = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        is_real[row, width - len(prompt) :] = 1
    return torch.from_numpy(ids), torch.from_numpy(is_real)
