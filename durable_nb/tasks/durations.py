"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from durable_nb.errors import DeclarationError

DURATION_PARTS = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d|w)", re.ASCII)
UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_duration(value: timedelta | str | float, *, of: str) -> timedelta:
    """Give a duration as a timedelta.

    Args:
        value: a timedelta, a number of seconds, or text such as ``"90s"``, ``"1h30m"``, ``"250ms"``.
        of: the option's name, for the error.

    Raises:
        DeclarationError: the text is no duration, or the duration is negative.

    >>> parse_duration("1h30m", of="execution_timeout")
    datetime.timedelta(seconds=5400)
    """
    try:
        match value:
            case timedelta():
                duration = value
            case str():
                duration = timedelta(seconds=_seconds(value))
            case _:
                duration = timedelta(seconds=value)
    except (ValueError, OverflowError, TypeError):
        raise DeclarationError(
            f"{of}={value!r} is no duration: give a timedelta, seconds, or text such as '90s' or '1h30m'."
        ) from None
    if duration < timedelta(0):
        raise DeclarationError(f"{of}={value!r} is negative: give a duration of zero or more.")
    return duration


def _seconds(text: str) -> float:
    parts = list(DURATION_PARTS.finditer(text.strip()))
    if not parts or DURATION_PARTS.sub("", text).strip():
        raise ValueError(text)
    return sum(float(part["number"]) * UNIT_SECONDS[part["unit"]] for part in parts)


def format_duration(seconds: float) -> str:
    """Give seconds as people write them.

    >>> format_duration(5400), format_duration(0.25)
    ('1h30m', '250ms')
    """
    if seconds < 1:
        return f"{seconds * 1000:g}ms" if seconds else "0s"
    text = ""
    for unit in ("d", "h", "m"):
        whole, seconds = divmod(seconds, UNIT_SECONDS[unit])
        text += f"{whole:g}{unit}" if whole else ""
    return text + (f"{seconds:.3f}".rstrip("0").rstrip(".") + "s" if seconds or not text else "")


def sleep_seconds(duration: object) -> float:
    """Give the length of a sleep.

    Raises:
        DeclarationError: it is no timedelta of zero or more.
    """
    if not isinstance(duration, timedelta) or duration < timedelta(0):
        raise DeclarationError(f"A durable sleep takes a timedelta of zero or more, not {duration!r}.")
    return duration.total_seconds()
