"""Commands in the study: the one place that every process of a sweep can reach without an open port.

A command is one study attribute, its answer another. Nothing is ever deleted or changed, so any number of terminals
may ask at once, and a driver that dies between doing and answering does nothing twice: each command is refused once
its trial has changed state.
"""

from __future__ import annotations

import time
import uuid
from typing import Final

import optuna

from sweeper.core.command import Command
from sweeper.core.decode import decode, encode

_COMMAND: Final = "command:"
_ANSWER: Final = "answer:"


def new_id() -> str:
    """Return an id that sorts behind all earlier ones, as far as the machines' clocks agree."""
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:6]}"


def post(study: optuna.Study, command: Command) -> None:
    """Ask; the sweep's driver answers."""
    study.set_user_attr(_COMMAND + command.id, encode(command))


def unanswered(study: optuna.Study) -> tuple[Command, ...]:
    """Return the commands that no driver has taken up, oldest first."""
    attrs = study._storage.get_study_user_attrs(study._study_id)
    asked = {key.removeprefix(_COMMAND): value for key, value in attrs.items() if key.startswith(_COMMAND)}
    return tuple(decode(Command, asked[key]) for key in sorted(asked) if _ANSWER + key not in attrs)


def give_answer(study: optuna.Study, command: Command, text: str) -> None:
    """Mark a command as taken up, with what came of it."""
    study.set_user_attr(_ANSWER + command.id, text)


def answer_to(study: optuna.Study, command: Command) -> str | None:
    """Return the answer, None where there is none yet."""
    answer = study._storage.get_study_user_attrs(study._study_id).get(_ANSWER + command.id)
    return None if answer is None else str(answer)
