"""All that one config measures besides its training, made ready once and measured at each milestone that asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from sweeper.core.config import TrialConfig
from sweeper.core.evaluation import HELD_OUT_METRICS, Metric
from trials.data import TokenSet
from trials.engines.base import Engine
from trials.evaluate import evaluate, hold_out
from trials.gang import Gang
from trials.source import model_folder

_FORCED: tuple[Metric, ...] = ("heldout_loss", "exact_match")
"""Measured in one pass with the right answers as input."""


class Evaluation:
    """Measures an engine's model. Every method is called on all ranks at once; leaves training as it was."""

    def __init__(
        self,
        config: TrialConfig,
        tests: Mapping[str, TokenSet],
        load_tokenizer: Callable[[], Any],
        *,
        engine: Engine,
        gang: Gang,
    ) -> None:
        """Make ready all that the config measures, so that what cannot be measured is refused before training.

        Args:
            tests: the test sets by name, tokenised and cut.
            load_tokenizer: called at most once, and only where text is needed.

        Raises:
            InputError: a set cannot be used, or a metric needs what is not there.
        """
        self._config = config
        self._eval = config.eval
        self._tests = tests
        self._load_tokenizer = load_tokenizer
        self._gang = gang
        self._layout = engine.layout
        longest = [int(one.lengths.max()) for one in tests.values()]
        self._max_tokens = max([config.train.max_tokens_per_rank, *longest])
        for metric in self._eval.all_metrics:
            self._prepare(metric, engine)

    def scores(self, engine: Engine, metrics: tuple[Metric, ...]) -> dict[str, float]:
        """Return the scores by name, the same on every rank; see ``Measurement.scores``."""
        forced = [metric for metric in metrics if metric in _FORCED]
        scores: dict[str, float] = {}
        if forced and self._tests:
            scores |= evaluate(engine, self._held_out, forced, self._gang)
        if "answer_match" in metrics and self._tests:
            from trials.written import answer_match

            scores |= answer_match(
                engine,
                self._questions,
                self._eval,
                self._tokenizer,
                max_tokens=self._max_tokens,
                gang=self._gang,
            )
        if "multiple_choice" in metrics:
            scores |= self._choice_test.scores(engine)
        if "lm_eval" in metrics:
            scores |= self._harness.scores(self._harness_model(engine))
        return scores

    def _prepare(self, metric: Metric, engine: Engine) -> None:
        if metric in HELD_OUT_METRICS and not self._tests:
            return
        if metric in _FORCED:
            _ = self._held_out
        elif metric == "answer_match":
            with engine.decoding():
                pass  # Refuses models that cannot decode.
            _ = self._questions
        elif metric == "multiple_choice":
            _ = self._choice_test
        elif metric == "lm_eval":
            with engine.decoding():
                pass
            _ = self._harness

    @cached_property
    def _tokenizer(self) -> Any:
        return self._load_tokenizer()

    @cached_property
    def _held_out(self) -> Any:
        return hold_out(self._tests, max_tokens=self._max_tokens, layout=self._layout, gang=self._gang)

    @cached_property
    def _questions(self) -> Any:
        from trials.written import questions

        return questions(self._tests, self._eval, self._tokenizer)

    @cached_property
    def _choice_test(self) -> Any:
        from trials.choices import read_sets
        from trials.multiple_choice import ChoiceTest

        return ChoiceTest(
            read_sets(self._eval),
            self._eval,
            self._tokenizer,
            max_tokens=self._max_tokens,
            layout=self._layout,
            gang=self._gang,
        )

    @cached_property
    def _harness(self) -> Any:
        from trials.harness import Harness

        return Harness(self._eval)

    def _harness_model(self, engine: Engine) -> Any:
        from trials.harness import HarnessModel, longest_input

        return HarnessModel(
            engine,
            self._tokenizer,
            max_tokens=self._max_tokens,
            max_length=longest_input(model_folder(self._config.model)),
            layout=self._layout,
            gang=self._gang,
        )
