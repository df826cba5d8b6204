"""The model and tokenizer of a trial, from a local folder, and logits at chosen positions alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sweeper.core.config import ModelConfig
from sweeper.core.errors import InputError
from trials.attention import is_stateful, takes_borders
from trials.batch import MicroBatch
from trials.kernels import BORDERS


def load_tokenizer(folder: Path, model: ModelConfig) -> Any:
    """Return the tokenizer with its chat template, or the one that replaces it."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable("tokenizer cannot be loaded", folder, error) from error
    if model.chat_template is not None:
        tokenizer.chat_template = Path(model.chat_template).read_text(encoding="utf-8")
    return tokenizer


def load_model(folder: Path, model: ModelConfig) -> nn.Module:
    """Return the causal language model in fp32 on the CPU."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        loaded: nn.Module = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unusable("model cannot be loaded", folder, error) from error
    # A cache in training mode switches off transformers' detection of packed sequences, without a word.
    loaded.config.use_cache = False  # type: ignore[union-attr]
    return loaded


Decode: TypeAlias = Callable[[Tensor, Tensor, Any], tuple[Tensor, Any]]
"""Feeds rows of tokens, [R, T], to the model. Given them, which of all slots so far hold tokens, [R, S], and the cache
of the slots before (None at first), it returns the logits after each row's last slot, [R, vocabulary], and the cache.
"""


class Head:
    """Makes a causal LM compute logits at a micro-batch's kept slots alone.

    A hook in front of the output layer picks them, so that whatever the model does to its logits afterwards (scaling,
    soft caps) stays in force. With answers of a quarter of all tokens this saves three quarters of the output layer
    and of the logits' memory.
    """

    def __init__(self, model: nn.Module) -> None:
        output_layer = model.get_output_embeddings()  # type: ignore[operator]
        if output_layer is None:
            raise InputError("model has no output layer", where="model.path", got=type(model).__name__)
        self._kept_n: Tensor | None = None
        self._takes_borders = takes_borders(model)
        output_layer.register_forward_pre_hook(self._pick)

    def logits(self, model: nn.Module, batch: MicroBatch) -> Tensor:
        """Return the logits [N, vocabulary] in the precision of the forward pass."""
        self._kept_n = batch.kept_n
        borders: dict[str, object] = {}
        if self._takes_borders:
            borders = dict(zip(BORDERS, [batch.borders_s] * 2 + [batch.longest] * 2, strict=True))
        # No attention mask and no cache: only then are samples told apart by their restarting positions.
        output = model(
            input_ids=batch.input_ids_rt,
            position_ids=batch.position_ids_rt,
            attention_mask=None,
            use_cache=False,
            **borders,
        )
        return self._picked(output.logits)

    @contextmanager
    def decoding(self, model: nn.Module, call: Callable[..., Any]) -> Iterator[Decode]:
        """Give a function that runs the model with a cache of keys and values; outside the block nothing is cached.

        Meanwhile the model is in evaluation mode, and attention gets a mask of every row's padding.

        Args:
            model: the bare model.
            call: what runs its forward pass, the model itself or the engine around it.

        Raises:
            InputError: the model keeps state that padding on the left would change.
        """
        if is_stateful(model):
            raise InputError("a model with recurrent layers cannot decode", where="eval", got=type(model).__name__)
        from transformers import DynamicCache

        config: Any = model.config
        was_training = model.training

        def decode(input_ids_rt: Tensor, is_real_rs: Tensor, cache: Any) -> tuple[Tensor, Any]:
            rows, slots = input_ids_rt.shape
            position_ids = (is_real_rs.cumsum(1) - 1).clamp(min=0)[:, -slots:]
            self._kept_n = torch.arange(1, rows + 1, device=input_ids_rt.device) * slots - 1
            output = call(
                input_ids=input_ids_rt,
                position_ids=position_ids,
                attention_mask=is_real_rs,
                past_key_values=DynamicCache(config=config) if cache is None else cache,
                use_cache=True,
            )
            return self._picked(output.logits), output.past_key_values

        try:
            model.eval()
            with torch.no_grad():
                yield decode
        finally:
            model.train(was_training)

    def _picked(self, logits: Tensor) -> Tensor:
        assert self._kept_n is not None
        count, self._kept_n = len(self._kept_n), None
        if logits.shape[:2] != (1, count):
            raise InputError("model makes logits past its output layer", where="model.path", got=tuple(logits.shape))
        return logits[0]

    def _pick(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = arguments[0]
        if self._kept_n is None:
            return arguments
        return (hidden.reshape(-1, hidden.shape[-1])[self._kept_n].unsqueeze(0),)


def _unusable(rule: str, folder: Path, error: Exception) -> InputError:
    return InputError(
        f"{rule} ({type(error).__name__})", where="model.path", got=str(folder), mend=str(error).split("\n")[0]
    )
