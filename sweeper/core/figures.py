"""Numbers as people read them: short, with their unit, and never wider than their column."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 4) -> str:
    """Return ``value`` with ``digits`` significant digits; a dash where there is none."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent)}"
    # Trailing zeros keep a column of numbers of one size aligned: 2.3 beside 2.345 reads as 2.300.
    return f"{value:#.{digits}g}".rstrip(".") if value and abs(value) < 10 ** (digits - 1) else text


def count(value: float) -> str:
    """Return a whole number with thousands set apart, e.g. ``12,288``."""
    return f"{round(value):,}"


def duration(seconds: float) -> str:
    """Return seconds as ``4.2 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def plural(amount: int, word: str) -> str:
    """Return ``1 trial``, ``2 trials``."""
    return f"{amount:,} {word}" if amount == 1 else f"{amount:,} {word}s"
