"""Tasks of lm-eval, measured on the model in training: no second copy of it is made.

Needs the extra ``eval``. Every rank runs the harness over the same requests, as if it were alone; only the forward
passes behind them are shared out, so the harness's own ranks and gathers stay out of it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from trials.batch import micro_batch
from trials.data import TokenSet
from trials.engines.base import Engine
from trials.evaluate import sample_sums
from trials.gang import Gang
from trials.generate import greedy
from trials.packing import Layout, plan
from trials.prepare import check_harness

FEW_SHOT_SEED = 1234
"""The harness's own default: which solved examples come before a question."""
DEFAULT_LENGTH = 2048
"""Longest input where the model does not say; the harness's own default."""
STOP_TAIL = 32
"""Tokens at the end of an answer in which a stop text is looked for."""


class Harness:
    """The tasks of one config, with their data."""

    def __init__(self, config: EvalConfig) -> None:
        """Find and load the tasks.

        Raises:
            InputError: the package or a task is missing, a task cannot be loaded, or it would run generated code.
        """
        check_harness()
        from lm_eval.tasks import TaskManager

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        path = config.lm_eval_path
        if path is not None and not Path(path).is_dir():
            raise InputError("there is no such folder", where="eval.lm_eval_path", got=path)
        manager = TaskManager(include_path=path, include_defaults=path is None)
        self._config = config
        self._tasks = {name: _load(manager, name) for name in config.lm_eval_tasks}

    def scores(self, model: HarnessModel) -> dict[str, float]:
        """Return ``lm_eval/TASK/SCORE`` for each task and group; ``lm_eval/TASK``, its first score; ``lm_eval``, the
        mean of those of the names in ``lm_eval_tasks``."""
        from lm_eval.evaluator import evaluate

        from trials.harness_adapter import Adapter

        scores: dict[str, float] = {}
        firsts = []
        for name, loaded in self._tasks.items():
            for task in loaded["tasks"].values():
                task.set_fewshot_seed(seed=FEW_SHOT_SEED)
            results = evaluate(
                lm=Adapter(model),
                task_dict=loaded,
                limit=self._config.max_samples,
                bootstrap_iters=0,
                log_samples=False,
                apply_chat_template=self._config.lm_eval_chat,
                fewshot_as_multiturn=self._config.lm_eval_chat,
            )["results"]
            found = {task: _named(result) for task, result in results.items()}
            for task, result in found.items():
                scores |= {f"lm_eval/{task}/{score}": value for score, value in result.items()}
                scores[f"lm_eval/{task}"] = next(iter(result.values()), float("nan"))
            # A tag has no result of its own: the mean over its tasks stands for it.
            own = [name] if name in found else list(found)
            firsts.append(float(np.mean([scores[f"lm_eval/{task}"] for task in own])))
            scores[f"lm_eval/{name}"] = firsts[-1]
        return scores | {"lm_eval": float(np.mean(firsts))}


class HarnessModel:
    """What the harness asks of a model, answered by an engine. Methods are called on all ranks at once."""

    def __init__(
        self, engine: Engine, tokenizer: Any, *, max_tokens: int, max_length: int, layout: Layout, gang: Gang
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._engine, self._max_tokens, self._layout, self._gang = engine, max_tokens, layout, gang

    def likelihoods(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Return for each (context, continuation) the continuation's log-likelihood, and whether it is the greedy one.

        A context that is too long loses its beginning.
        """
        if not pairs:
            return []
        rows = [np.array((before + after)[-(self.max_length + 1) :], dtype=np.int32) for before, after in pairs]
        counts = np.array([min(len(after), len(row) - 1) for (_, after), row in zip(pairs, rows, strict=True)])
        masks = [np.arange(len(row)) >= len(row) - count for row, count in zip(rows, counts, strict=True)]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        data = TokenSet(np.concatenate(rows), np.concatenate(masks), offsets, counts.astype(np.int32))
        inputs = data.lengths - 1
        limit = max(self._max_tokens, int(inputs.max()))
        planned = plan(inputs, max_tokens=limit, ranks=self._gang.world_size, layout=self._layout)
        everything = np.arange(len(data))
        batches = (micro_batch(data, everything, ranks[self._gang.rank]).to(self._gang.device) for ranks in planned)
        losses, wrong = sample_sums(self._engine, batches, len(data), self._gang)
        return [(-float(loss), bool(count == 0)) for loss, count in zip(losses, wrong, strict=True)]

    def answers(self, prompts: Sequence[list[int]], stops: Sequence[Sequence[str]], max_new_tokens: int) -> list[str]:
        """Return the greedy answer to each prompt up to the first of its stop texts."""

        def is_complete(number: int, answer: list[int]) -> bool:
            tail = self.tokenizer.decode(answer[-STOP_TAIL:], skip_special_tokens=True)
            return any(stop in tail for stop in stops[number])

        longest = max(1, self.max_length - max_new_tokens)
        written = greedy(
            self._engine,
            [np.array(prompt[-longest:], dtype=np.int32) for prompt in prompts],
            max_new_tokens=max_new_tokens,
            ends=frozenset({self.tokenizer.eos_token_id} - {None}),
            max_tokens=self._max_tokens,
            gang=self._gang,
            stop=is_complete,
        )
        tokens = {number: answer for share in self._gang.gather(written) for number, answer in share.items()}
        texts = [self.tokenizer.decode(tokens[number], skip_special_tokens=True) for number in range(len(prompts))]
        return [cut(text, own) for text, own in zip(texts, stops, strict=True)]


def cut(text: str, stops: Sequence[str]) -> str:
    """Return the text before the first stop text in it; an empty one stops nothing."""
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text


def longest_input(folder: Path) -> int:
    """Return how many tokens the model in a folder takes, by its configuration."""
    plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for section in (plain, plain.get("text_config") or {}):
        for key in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(section.get(key), int):
                return int(section[key])
    return DEFAULT_LENGTH


def _load(manager: Any, name: str) -> Any:
    if name not in manager.all_tasks:
        raise InputError("there is no such task of lm-eval", where="eval.lm_eval_tasks", got=name)
    try:
        loaded = manager.load([name])
    except Exception as error:  # A task is code and data of anyone's: many kinds, all mean that it cannot be had.
        raise InputError(
            f"task of lm-eval cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            where="eval.lm_eval_tasks",
            got=name,
        ) from error
    if any(getattr(task, "UNSAFE_CODE", False) for task in loaded["tasks"].values()):
        raise InputError("task of lm-eval runs code that the model writes", where="eval.lm_eval_tasks", got=name)
    return loaded


def _named(result: Mapping[str, Any]) -> dict[str, float]:
    return dict(_numbers(result))


def _numbers(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield scores by name; the harness calls them ``METRIC,FILTER`` and puts standard errors beside them."""
    for key, value in result.items():
        metric, _, kind = key.partition(",")
        if kind and not metric.endswith("_stderr") and isinstance(value, (int, float)):
            name = metric if kind == "none" else f"{metric}.{kind}"
            yield re.sub(r"[^\w .:-]", "_", name), float(value)
