"""The model in training, as lm-eval takes models. Imports the package: to be imported only where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from sweeper.core.errors import InputError

if TYPE_CHECKING:
    from trials.harness import HarnessModel


class Adapter(TemplateLM):  # type: ignore[misc]
    """Turns the harness's texts into tokens by the harness's own rules; the rest is the model's.

    Says that it is alone: the requests are shared out over ranks behind it.
    """

    def __init__(self, model: HarnessModel) -> None:
        super().__init__()
        self.tokenizer = model.tokenizer
        self._model = model

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def prefix_token_id(self) -> int:
        words = self.tokenizer
        return int(words.eos_token_id if words.bos_token_id is None else words.bos_token_id)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        text = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return str(text)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        if add_special_tokens is None:
            # A chat template has put the token there itself.
            first = self.tokenizer.bos_token
            add_special_tokens = not (first and string.startswith(first))
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        return self._model.likelihoods([(before, after) for _, before, after in requests])

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> list[float]:
        pairs: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._model.max_length,
                context_len=1,
            )
            pairs += map(make_disjoint_window, windows)
            owners += [number] * (len(pairs) - len(owners))
        totals = [0.0] * len(requests)
        for number, (value, _) in zip(owners, self._model.likelihoods(pairs), strict=True):
            totals[number] += value
        return totals

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> list[str]:
        asked = [(request.args[0], normalize_gen_kwargs(request.args[1])) for request in requests]
        answers = [""] * len(asked)
        for limit in sorted({settings["max_gen_toks"] for _, settings in asked}):
            group = [number for number, (_, settings) in enumerate(asked) if settings["max_gen_toks"] == limit]
            for number in group:
                _refuse_sampling(asked[number][1])
            prompts = [self.tok_encode(asked[number][0]) for number in group]
            written = self._model.answers(prompts, [asked[number][1]["until"] for number in group], limit)
            for number, answer in zip(group, written, strict=True):
                answers[number] = answer
        return answers


def _refuse_sampling(settings: Mapping[str, Any]) -> None:
    if settings.get("do_sample"):
        raise InputError("task of lm-eval draws answers at random: only greedy ones are measured", where="eval")
