"""Constants as JSON text.

Invariant: `decode(encode(value)) == value` with the same types all through, or `encode` refuses. JSON's own kinds stand for
themselves; every other is an object with one key that begins with `$`, so nothing is guessed when reading. Exact types only:
a subclass may carry more than its base can say.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import re
import zoneinfo
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

MAX_CONSTANT_BYTES = 64 * 1024
_MAX_DEPTH = 100


class UnkeepableError(Exception):
    """The value is not one of those that JSON text can stand for."""


class OversizeError(UnkeepableError):
    """The value's text would be larger than 64 KiB."""


def encode(value: object) -> str:
    """Write a constant as JSON text of at most 64 KiB.

    Kept are None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, range, datetime, date, time,
    timedelta, timezone, ZoneInfo, Decimal, UUID, Path, compiled regular expressions, and loggers (by name).

    Raises:
        UnkeepableError: it is, or holds, anything else, or nests deeper than 100 levels.
        OversizeError: it is too large.

    Example:
        >>> encode({"limit": 3, "when": (1, 2)})
        '{"$dict":[["limit",3],["when",{"$tuple":[1,2]}]]}'
    """
    text = _text(_Budget().encode(value, 0))
    if len(text) > MAX_CONSTANT_BYTES:
        raise OversizeError
    return text


def decode(text: str) -> Any:
    """Read what `encode` wrote.

    Raises:
        ValueError: the text is something else.

    Example:
        >>> decode('{"$tuple":[1,2]}')
        (1, 2)
    """
    try:
        return _decode(json.loads(text))
    except (KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{text[:80]!r} is no constant") from error


def _text(form: object) -> str:
    return json.dumps(form, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


class _Budget:
    """Counts what has been encoded, so that a huge value is given up early instead of being copied whole."""

    def __init__(self) -> None:
        self.left = MAX_CONSTANT_BYTES

    def encode(self, value: object, depth: int) -> object:
        if depth > _MAX_DEPTH:
            raise UnkeepableError
        self._spend(len(value) if isinstance(value, str | bytes | list | tuple | dict | set | frozenset) else 1)
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if isinstance(value, int) and kind is int:
            return value if value.bit_length() < 1000 else {"$int": hex(value)}
        if isinstance(value, float) and kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, list) and kind is list:
            return [self.encode(item, depth + 1) for item in value]
        if isinstance(value, dict) and kind is dict:  # pairs keep the order, and keys that are no text
            return {"$dict": [[self.encode(key, depth + 1), self.encode(item, depth + 1)] for key, item in value.items()]}
        if isinstance(value, tuple) and kind is tuple:
            return {"$tuple": [self.encode(item, depth + 1) for item in value]}
        if isinstance(value, set | frozenset) and kind in (set, frozenset):
            return {f"${kind.__name__}": sorted((self.encode(item, depth + 1) for item in value), key=_text)}
        return self._tagged(value)

    def _spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise OversizeError

    def _tagged(self, value: object) -> object:
        if isinstance(value, logging.Logger):
            if value is logging.root or logging.Logger.manager.loggerDict.get(value.name) is value:
                return {"$logger": value.name}
            raise UnkeepableError
        for tag, (kind, write, _) in _TAGS.items():
            if type(value) is kind:
                payload = write(value)
                self._spend(len(_text(payload)))
                return {tag: payload}
        raise UnkeepableError


def _decode(form: Any) -> Any:
    if isinstance(form, list):
        return [_decode(item) for item in form]
    if not isinstance(form, dict):
        return form
    ((tag, payload),) = form.items()
    match tag:
        case "$int":
            return int(payload, 16)
        case "$float":
            return float(payload)
        case "$dict":
            return {_decode(key): _decode(item) for key, item in payload}
        case "$tuple":
            return tuple(_decode(payload))
        case "$set":
            return set(_decode(payload))
        case "$frozenset":
            return frozenset(_decode(payload))
        case "$logger":
            return logging.getLogger(None if payload == "root" else payload)
        case _:
            return _TAGS[tag][2](payload)


def _write_zone(zone: object) -> object:
    if zone is None:
        return None
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    if type(zone) is timezone:
        return _write_timedelta(zone.utcoffset(None))
    raise UnkeepableError


def _read_zone(payload: Any) -> Any:
    if payload is None:
        return None
    return zoneinfo.ZoneInfo(payload) if isinstance(payload, str) else timezone(_read_timedelta(payload))


def _write_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _read_timedelta(payload: Any) -> timedelta:
    days, seconds, microseconds = payload
    return timedelta(days, seconds, microseconds)


def _write_moment(value: datetime | time) -> list[object]:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _write_zone(value.tzinfo)]


def _read_moment(kind: type[datetime] | type[time]) -> Callable[[Any], Any]:
    return lambda payload: kind.fromisoformat(payload[0]).replace(fold=payload[1], tzinfo=_read_zone(payload[2]))


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _read_bytes(payload: str) -> bytes:
    return base64.b64decode(payload, validate=True)


def _write_pattern(value: re.Pattern[Any]) -> list[object]:
    if isinstance(value.pattern, bytes):
        return [_write_bytes(value.pattern), value.flags, "bytes"]
    return [value.pattern, value.flags, "str"]


def _read_pattern(payload: Any) -> re.Pattern[Any]:
    pattern, flags, kind = payload
    return re.compile(_read_bytes(pattern) if kind == "bytes" else pattern, flags)


# tag → exact type, how it is written as JSON, how it is read. `type(Path())` is PosixPath or WindowsPath.
_TAGS: dict[str, tuple[type, Callable[[Any], object], Callable[[Any], object]]] = {
    "$bytes": (bytes, _write_bytes, _read_bytes),
    "$complex": (complex, repr, complex),
    "$range": (range, lambda value: [value.start, value.stop, value.step], lambda payload: range(*payload)),
    "$datetime": (datetime, _write_moment, _read_moment(datetime)),
    "$date": (date, date.isoformat, date.fromisoformat),
    "$time": (time, _write_moment, _read_moment(time)),
    "$timedelta": (timedelta, _write_timedelta, _read_timedelta),
    "$timezone": (timezone, _write_zone, _read_zone),
    "$zone": (zoneinfo.ZoneInfo, _write_zone, _read_zone),
    "$decimal": (Decimal, str, Decimal),
    "$uuid": (UUID, str, UUID),
    "$path": (type(Path()), str, Path),
    "$pattern": (re.Pattern, _write_pattern, _read_pattern),
}
