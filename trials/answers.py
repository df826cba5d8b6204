"""The final answer in a text, by the rule that the config names."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from sweeper.core.evaluation import AnswerRule

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_AROUND_NUMBER = " \t$€£%.,"


def final_answer(text: str, rule: AnswerRule, marker: str) -> str | None:
    """Return the final answer in a form that equal answers share, or None where the text holds none.

    ``whole`` is the text without white space around it. ``last_number`` is the last number in it. ``after_marker`` is
    what follows the last ``marker`` up to the end of its line. A number is taken by its value: ``1,200.0`` is ``1200``,
    and after a marker a currency or per cent sign beside it does not count.
    """
    if rule == "whole":
        return text.strip() or None
    if rule == "last_number":
        found = _NUMBER.findall(text)
        return _value(found[-1]) if found else None
    before, _, after = text.rpartition(marker)
    line = after.strip().split("\n")[0].strip()
    if not line or (not before and not text.startswith(marker)):
        return None
    return _value(line.strip(_AROUND_NUMBER)) or line


def _value(text: str) -> str | None:
    """Return a number in its shortest form, None where the text is none."""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        value = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    # "-0" and "0" are one number; without the format's f, 1000 would become 1E+3.
    return f"{value.normalize() + 0:f}"
