"""Which tokens carry loss: the assistant's answers and the end of their turn, nothing else."""

import pytest
from trial_cases import MARKED, PLAIN, chat, tokenizer

from sweeper.core.errors import InputError
from trials.template import tokenise

CHATS = [
    [{"role": "system", "content": "be brief"}, *chat("what is red?", "a colour")["messages"]],
    chat("count", "one", "two é 三")["messages"],
    [*chat("q", "a")["messages"], {"role": "user", "content": "no answer yet"}],
]
EXPECTED = ["a colour<E>", "one<E>two é 三<E>", "a<E>"]


def learned(template: str, messages: list) -> str:
    words = tokenizer(template)
    (sample,) = tokenise(words, [("here:1", messages)])
    return words.decode(sample.tokens[sample.loss_mask])


@pytest.mark.parametrize("template", [MARKED, PLAIN], ids=["marked", "by prefixes"])
@pytest.mark.parametrize(("messages", "expected"), list(zip(CHATS, EXPECTED, strict=True)))
def test_answers_and_their_ends_are_learned(template: str, messages: list, expected: str) -> None:
    assert learned(template, messages) == expected


def test_both_ways_give_the_same_samples() -> None:
    marked, plain = (
        list(tokenise(tokenizer(template), [(str(i), one) for i, one in enumerate(CHATS)]))
        for template in (MARKED, PLAIN)
    )
    for left, right in zip(marked, plain, strict=True):
        assert left.tokens.tolist() == right.tokens.tolist()
        assert left.loss_mask.tolist() == right.loss_mask.tolist()


def test_white_space_behind_the_end_of_turn_is_not_learned() -> None:
    template = PLAIN.replace("{{ m['content'] + '<E>' }}", "{{ m['content'] + '<E>\n' }}")
    assert learned(template, CHATS[1]) == "one<E>two é 三<E>"


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    rewriting = PLAIN.replace("{{ m['content'] + '<E>' }}", "{{ m['content'] if loop.last else 'short' }}<E>")
    with pytest.raises(InputError, match=r"line:7: the chat template renders a message differently.*generation"):
        list(tokenise(tokenizer(rewriting), [("line:7", CHATS[1])]))


@pytest.mark.parametrize("template", [MARKED, PLAIN], ids=["marked", "by prefixes"])
def test_a_chat_that_the_template_rejects_is_named(template: str) -> None:
    picky = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + template
    with pytest.raises(InputError, match=r"line:1: the chat template rejects this chat .*no system here"):
        list(tokenise(tokenizer(picky), [("line:0", CHATS[1]), ("line:1", CHATS[0])]))


def test_a_template_that_marks_nothing_is_refused() -> None:
    empty = "{% generation %}{% endgeneration %}{{ messages[0]['content'] }}"
    with pytest.raises(InputError, match=r"line:1: the chat template"):
        list(tokenise(tokenizer(empty), [("line:1", CHATS[1])]))
