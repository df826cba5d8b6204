"""Multiple-choice questions as the user stores them, in the form of MMLU or with the choices spelt out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from trials.chats import Chat, check_chat
from trials.source import local_path

_LETTERED = re.compile(r"^\(?([A-Z])[.):]", re.MULTILINE)
_SUBJECT = re.compile(r"[\w .:-]+")
_MEND = (
    'one question per line: {"messages": [{"role": "user", "content": "...\\nA. ...\\nB. ..."}], "answer": "B", '
    '"subject": "..."}, or with "choices": ["...", "..."]'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question with its choices."""

    where: str
    """File and line."""
    subject: str
    asked: Chat
    """The messages before the answer, solved questions before it included."""
    choices: tuple[str, ...]
    """What the assistant would say, choice by choice."""
    right: int
    """Position of the right choice."""


def read_sets(config: EvalConfig) -> dict[str, list[Question]]:
    """Return the questions of every multiple-choice set, each with its solved ones before it.

    Raises:
        InputError: a file is missing, a line is no question, or a subject has too few solved ones.
    """
    return {
        name: _with_shots(read_questions(path, config.max_samples), name, config)
        for name, path in config.multiple_choice.items()
    }


def read_questions(path: str, limit: int | None = None) -> list[Question]:
    """Return the questions of a JSONL file, of each subject the first ``limit``; raises as ``read_sets`` does."""
    file = local_path(path)
    if file is None or not file.is_file():
        raise InputError("there is no such file", where="eval.multiple_choice", got=path)
    counts: dict[str, int] = {}
    questions = []
    for where, record in _records(file):
        question = _question(record, where)
        counts[question.subject] = counts.get(question.subject, 0) + 1
        if limit is None or counts[question.subject] <= limit:
            questions.append(question)
    if not questions:
        raise InputError("file holds no question", where=str(file), got="an empty file", mend=_MEND)
    return questions


def _with_shots(questions: list[Question], name: str, config: EvalConfig) -> list[Question]:
    if not config.few_shot:
        return questions
    path = config.few_shot_from[name]
    solved: dict[str, Chat] = {}
    counts: dict[str, int] = {}
    for one in read_questions(path, config.few_shot):
        counts[one.subject] = counts.get(one.subject, 0) + 1
        solved.setdefault(one.subject, []).extend([*one.asked, _answer(one.choices[one.right])])
    for question in questions:
        if counts.get(question.subject, 0) < config.few_shot:
            raise InputError(
                f"needs {config.few_shot} solved questions of subject {question.subject!r}",
                where=f"eval.few_shot_from.{name}",
                got=counts.get(question.subject, 0),
            )
    return [_preceded(question, solved[question.subject]) for question in questions]


def _preceded(question: Question, solved: Chat) -> Question:
    return Question(
        where=question.where,
        subject=question.subject,
        asked=[*solved, *question.asked],
        choices=question.choices,
        right=question.right,
    )


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}:{number}"
            try:
                yield where, json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise InputError("is not JSON", where=where, got=line[:80], mend=_MEND) from error


def _question(record: object, where: str) -> Question:
    if not isinstance(record, Mapping) or not isinstance(record.get("messages"), list):
        raise InputError("each line must be an object with 'messages'", where=where, got=record, mend=_MEND)
    messages = list(record["messages"])
    given = record.get("answer")
    if messages and isinstance(messages[-1], Mapping) and messages[-1].get("role") == "assistant":
        last = messages.pop()
        given = last.get("content") if given is None else given
    choices = _choices(record, messages, where)
    subject = record.get("subject", "all")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise InputError("'subject' must be letters, digits, space, . : _ or -", where=where, got=subject)
    right = _position(given, choices, where)
    asked = check_chat({"messages": [*messages, _answer(choices[right])]}, where)[:-1]
    return Question(where=where, subject=subject, asked=asked, choices=choices, right=right)


def _choices(record: Mapping[Any, Any], messages: Chat, where: str) -> tuple[str, ...]:
    """Return the choices as given, else the letters that the lines of the last message begin with."""
    given = record.get("choices")
    if given is None:
        content = messages[-1].get("content") if messages and isinstance(messages[-1], Mapping) else None
        given = _letters(content) if isinstance(content, str) else ()
    is_usable = isinstance(given, (list, tuple)) and all(isinstance(one, str) and one.strip() for one in given)
    if not is_usable or len(given) < 2 or len(set(given)) < len(given):
        raise InputError("a question needs at least two different choices", where=where, got=given, mend=_MEND)
    return tuple(given)


def _letters(text: str) -> tuple[str, ...]:
    """Return A, B, ... as far as they follow each other after the last A: a question may begin with "E. coli"."""
    found = _LETTERED.findall(text)
    letters = ["A"] if "A" in found else []
    for letter in found[len(found) - found[::-1].index("A") :] if letters else ():
        if ord(letter) == ord(letters[-1]) + 1:
            letters.append(letter)
    return tuple(letters)


def _position(answer: object, choices: tuple[str, ...], where: str) -> int:
    """Return which choice is right: named by its text, its letter or its number from 0."""
    if isinstance(answer, str):
        text = answer.strip()
        if text in choices:
            return choices.index(text)
        if len(text) == 1 and 0 <= ord(text) - ord("A") < len(choices):
            return ord(text) - ord("A")
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise InputError("'answer' must name one of the choices", where=where, got=answer, mend=f"choices: {choices}")


def _answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}
