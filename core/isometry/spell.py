"""Numbers and durations as people read them."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any, digits: int = 4) -> str:
    """`value` in `digits` significant digits; whole numbers with thousands set apart; None as a dash; text as it is.

    >>> number(0.00001234567), number(65536.0), number(1234567), number(0.5), number(None)
    ('1.235e-5', '65,536', '1,234,567', '0.5', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    try:
        return _real(float(value), digits) if not isinstance(value, str) else value
    except (TypeError, ValueError):
        return str(value)


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units that matter; a dash where it is not known.

    >>> duration(7), duration(245), duration(7509), duration(273906), duration(None)
    ('7 s', '4 min 05 s', '2 h 05 min', '3 d 04 h', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def one_line(text: Any) -> str:
    """`text` on one line, without control characters that could steer a terminal."""
    return "".join(_harmless(letter) for letter in str(text).strip())


def _harmless(letter: str) -> str:
    return letter if letter.isprintable() else " " if letter.isspace() else "?"


def _real(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return str(value)
    if 10**digits <= abs(value) < 1e7:
        return f"{value:,.0f}"
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def what_failed(error: Exception) -> str:
    """An error in one line: its kind and the first line of what it says."""
    first, _, _ = str(error).partition("\n")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
