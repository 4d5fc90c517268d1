"""Timestamps and durations: read, written, and taken apart.

Invariant: both are whole nanoseconds all through; Python's datetime, which knows microseconds only, serves the calendar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

from durable_nb.engine.cel.arithmetic import quotient, remainder
from durable_nb.engine.cel.faults import Fault
from durable_nb.engine.cel.frame import Frame, Overload
from durable_nb.engine.cel.values import NANOS, Duration, Timestamp, checked_duration, checked_timestamp, mismatch, unreadable

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZONE_STEPS: Final = 100
_MAX_DURATION_CHARS: Final = 200

_RFC3339: Final = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DURATION_PART: Final = r"([0-9]{0,20})(?:\.([0-9]{0,20}))?(h|ms|us|µs|μs|ns|m|s)"
_UNITS: Final = {"h": 3600 * NANOS, "m": 60 * NANOS, "s": NANOS, "ms": 1_000_000, "us": 1000, "µs": 1000, "μs": 1000, "ns": 1}


def to_timestamp(_: Frame, value: object) -> object:
    """`timestamp(value)`, of RFC 3339 text or of seconds since 1970."""
    if isinstance(value, Timestamp):
        return value
    if type(value) is int:
        return checked_timestamp(value * NANOS)
    if type(value) is not str:
        raise mismatch("timestamp", value)
    match = re.fullmatch(_RFC3339, value)
    if match is None:
        raise unreadable("timestamp", value, "'2026-01-31T12:00:00Z'")
    *fields, fraction, sign, hours, minutes = match.groups()
    try:
        year, month, day, hour, minute, second = map(int, fields)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise Fault(f"timestamp() got a date out of range ({error}); correct it") from None
    offset = (int(hours) * 60 + int(minutes)) * (-60 if sign == "-" else 60) if sign else 0
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - offset
    return checked_timestamp(seconds * NANOS + int((fraction or "").ljust(9, "0")))


def to_duration(frame: Frame, value: object) -> object:
    """`duration(value)`, of Go's text like 1h30m or 1.5s."""
    if isinstance(value, Duration):
        return value
    if type(value) is not str:
        raise mismatch("duration", value)
    frame.charge(len(value) // 4)
    nanos = _nanos(value[1:] if value.startswith(("-", "+")) else value)
    if nanos is None:
        raise unreadable("duration", value, "'1h30m' or '1.5s'")
    return checked_duration(-nanos if value.startswith("-") else nanos)


def _nanos(text: str) -> int | None:
    """The sum of a duration's parts, or None if the text is none."""
    if text == "0":
        return 0
    if not 0 < len(text) <= _MAX_DURATION_CHARS:
        return None
    part = re.compile(_DURATION_PART)
    nanos = position = 0
    while position < len(text):
        match = part.match(text, position)
        if match is None or not (match[1] or match[2]):
            return None
        unit, fraction = _UNITS[match[3]], match[2] or ""
        nanos += int(match[1] or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        position = match.end()
    return nanos


def timestamp_text(value: Timestamp) -> str:
    """A timestamp in UTC by RFC 3339."""
    seconds, nanos = divmod(int(value), NANOS)
    moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return f"{moment}{_fraction_text(nanos)}Z"


def duration_text(value: Duration) -> str:
    """A duration in seconds, as proto3's JSON mapping writes it."""
    seconds, nanos = divmod(abs(int(value)), NANOS)
    return f"{'-' if value < 0 else ''}{seconds}{_fraction_text(nanos)}s"


def _fraction_text(nanos: int) -> str:
    return f".{nanos:09d}".rstrip("0") if nanos else ""


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo | None:
    """The time zone of that name, or None. It may read a file, hence the cache, also of what is not there."""
    fixed = re.fullmatch(r"([+-]?)([0-9]{2}):([0-9]{2})", name)
    if fixed and int(fixed[2]) < 24 and int(fixed[3]) < 60:
        minutes = int(fixed[2]) * 60 + int(fixed[3])
        return timezone(timedelta(minutes=-minutes if fixed[1] == "-" else minutes))
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def part_of_time(name: str, of_timestamp: Callable[[datetime], int], of_duration: Callable[[int], int] | None) -> Overload:
    """Make a method like getHours(), which takes a time zone for a timestamp and none for a duration."""

    def call(frame: Frame, value: object, zone: object = "UTC") -> object:
        if isinstance(value, Timestamp) and type(zone) is str:
            moment = _EPOCH + timedelta(microseconds=int(value) // 1000)
            if zone == "UTC":
                return of_timestamp(moment)
            frame.charge(_ZONE_STEPS)
            there = _zone(zone[:100])
            if there is None:
                raise unreadable(name, zone, "'Europe/Paris' or '+02:00'")
            try:
                return of_timestamp(moment.astimezone(there))
            except OverflowError:
                raise Fault("the timestamp is out of range in that time zone; read it in UTC") from None
        if isinstance(value, Duration) and of_duration is not None and zone == "UTC":
            return of_duration(int(value))
        raise mismatch(name, value, zone)

    return call


TIME_PARTS: Final = {
    name: part_of_time(name, of_timestamp, of_duration)
    for name, of_timestamp, of_duration in (
        ("getFullYear", lambda t: t.year, None),
        ("getMonth", lambda t: t.month - 1, None),
        ("getDate", lambda t: t.day, None),
        ("getDayOfMonth", lambda t: t.day - 1, None),
        ("getDayOfWeek", lambda t: t.isoweekday() % 7, None),
        ("getDayOfYear", lambda t: t.timetuple().tm_yday - 1, None),
        ("getHours", lambda t: t.hour, lambda d: quotient(d, 3600 * NANOS)),
        ("getMinutes", lambda t: t.minute, lambda d: quotient(d, 60 * NANOS)),
        ("getSeconds", lambda t: t.second, lambda d: quotient(d, NANOS)),
        ("getMilliseconds", lambda t: t.microsecond // 1000, lambda d: quotient(remainder(d, NANOS), 1_000_000)),
    )
}
"""By their CEL names. Of a duration they give the whole, except the milliseconds, as cel-spec has it."""
