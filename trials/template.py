"""Chats to tokens and loss masks through the model's own chat template: loss on the assistant's tokens alone.

Where the template marks answers with ``{% generation %}``, its marks are taken. Otherwise the answer of turn i is what
rendering the first i messages with it adds to rendering those before it with a generation prompt; that needs a
template whose rendering of a prefix is a prefix of the rendering, and any other is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.core.errors import InputError
from trials.chats import Chat

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MEND = (
    "mark the answers in the template with {% generation %} ... {% endgeneration %}, and name it in model.chat_template"
)

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """One tokenised chat: token ids, and which of them are to be predicted (never the first). Both [time]."""

    tokens: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]


def tokenise(tokenizer: Any, chats: Sequence[tuple[str, Chat]]) -> Iterator[Sample]:
    """Yield one sample per chat, in order.

    Raises:
        InputError: the template rejects a chat, marks no answer in it, or does not tell answers from the rest.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "needs a fast tokenizer, to find answers in the text", where="model.path", got=type(tokenizer).__name__
        )
    if _GENERATION.search(str(tokenizer.chat_template)):
        yield from _by_marks(tokenizer, chats)
    else:
        yield from _by_prefixes(tokenizer, chats)


def _by_marks(tokenizer: Any, chats: Sequence[tuple[str, Chat]]) -> Iterator[Sample]:
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    try:
        found = tokenizer.apply_chat_template([chat for _, chat in chats], **options)
    except Exception:  # Jinja's errors and the template's own do not say which chat it was: ask one by one.
        found = {"input_ids": [], "assistant_masks": []}
        for where, chat in chats:
            try:
                one = tokenizer.apply_chat_template([chat], **options)
            except Exception as error:
                raise _rejected(where, error) from error
            found["input_ids"] += one["input_ids"]
            found["assistant_masks"] += one["assistant_masks"]
    for (where, _), ids, mask in zip(chats, found["input_ids"], found["assistant_masks"], strict=True):
        yield _sample(ids, np.asarray(mask, dtype=bool), where)


def _by_prefixes(tokenizer: Any, chats: Sequence[tuple[str, Chat]]) -> Iterator[Sample]:
    rendered = [_render(tokenizer, where, chat) for where, chat in chats]
    encoded = tokenizer(
        [text for text, _ in rendered],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    for (where, _), (_, spans), ids, offsets in zip(
        chats, rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        yield _sample(ids, inside(np.asarray(offsets, dtype=np.int64).reshape(-1, 2), spans), where)


def inside(offsets: NDArray[np.int64], spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Return which tokens lie wholly inside one of the character spans; ``offsets`` is [token, start and end]."""
    starts, ends = offsets[:, 0], offsets[:, 1]
    mask = np.zeros(len(offsets), dtype=bool)
    for start, end in spans:
        mask |= (starts >= start) & (ends <= end) & (starts < ends)
    return mask


def _render(tokenizer: Any, where: str, chat: Chat) -> tuple[str, list[Span]]:
    """Return the rendered chat and the character spans of its answers."""

    def render(messages: Chat, prompt: bool) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))

    try:
        full, spans = render(chat, False), []
        for index, message in enumerate(chat):
            if message["role"] == "assistant":
                before = render(chat[:index], True) if index else ""
                through = render(chat[: index + 1], False)
                if not (through.startswith(before) and full.startswith(through)):
                    raise InputError(
                        "the chat template renders a message differently when others follow: answers cannot be found",
                        where=where,
                        got=f"messages[{index}]",
                        mend=_MEND,
                    )
                spans.append((len(before), _end_of_turn(through, len(before), tokenizer.eos_token)))
    except InputError:
        raise
    except Exception as error:
        raise _rejected(where, error) from error
    return full, spans


def _end_of_turn(text: str, start: int, eos_token: str | None) -> int:
    """Return where an answer ends: after its end-of-turn token, without white space a template puts behind it."""
    position = text.rfind(eos_token, start) if eos_token else -1
    if position < 0 or not eos_token:
        return len(text)
    end = position + len(eos_token)
    return end if not text[end:].strip() else len(text)


def _sample(ids: Sequence[int], mask: NDArray[np.bool_], where: str) -> Sample:
    tokens = np.asarray(ids, dtype=np.int32)
    mask = mask.copy()
    mask[:1] = False
    if not mask.any():
        raise InputError(
            "the chat template marks no token of the answer", where=where, got=f"{len(tokens)} tokens", mend=_MEND
        )
    return Sample(tokens, mask)


def _rejected(where: str, error: Exception) -> InputError:
    return InputError(f"the chat template rejects this chat ({type(error).__name__}: {error})", where=where, mend="")
