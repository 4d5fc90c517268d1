"""Conversions: int(), uint(), double(), string(), bool(), bytes().

Invariant: a conversion gives a value of its type's range or a fault; it never guesses, so text is read by CEL's own forms and
not by all that Python's constructors take (`1_0`, ` 1`).
"""

from __future__ import annotations

import math
import re
from typing import Final

from durable_nb.engine.cel.faults import Fault
from durable_nb.engine.cel.frame import Frame
from durable_nb.engine.cel.times import duration_text, timestamp_text
from durable_nb.engine.cel.values import (
    INT_MAX,
    INT_MIN,
    NANOS,
    NUMBERS,
    UINT_MAX,
    Duration,
    Timestamp,
    Uint,
    checked_int,
    checked_uint,
    mismatch,
    unreadable,
)

_DOUBLE: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(?i:inf(inity)?)|(?i:nan)"
_MAX_DOUBLE_CHARS: Final = 400
_TRUE_TEXTS: Final = ("1", "t", "true", "TRUE", "True")
_FALSE_TEXTS: Final = ("0", "f", "false", "FALSE", "False")


def to_int(_: Frame, value: object) -> object:
    """`int(value)`; of a timestamp the seconds since 1970."""
    if isinstance(value, Timestamp):
        return int(value) // NANOS
    if type(value) is int or type(value) is Uint:
        return checked_int(int(value))
    if type(value) is float:
        if not float(INT_MIN) < value < float(INT_MAX):
            raise Fault("the double is out of the range of int (64 bits); test it first")
        return int(value)
    if type(value) is str:
        if not re.fullmatch(r"[+-]?[0-9]{1,40}", value):
            raise unreadable("int", value, "'42'")
        return checked_int(int(value))
    raise mismatch("int", value)


def to_uint(_: Frame, value: object) -> object:
    """`uint(value)`."""
    if type(value) is int or type(value) is Uint:
        return checked_uint(int(value))
    if type(value) is float:
        if not 0 <= value < float(UINT_MAX):
            raise Fault("the double is out of the range of uint (0 to 64 bits); test it first")
        return Uint(int(value))
    if type(value) is str:
        if not re.fullmatch(r"\+?[0-9]{1,40}", value):
            raise unreadable("uint", value, "'42'")
        return checked_uint(int(value))
    raise mismatch("uint", value)


def to_double(_: Frame, value: object) -> object:
    """`double(value)`."""
    if isinstance(value, int | float) and type(value) in NUMBERS:
        return float(value)
    if type(value) is str:
        if len(value) > _MAX_DOUBLE_CHARS or not re.fullmatch(_DOUBLE, value):
            raise unreadable("double", value, "'4.2'")
        return float(value)
    raise mismatch("double", value)


def to_string(_: Frame, value: object) -> object:
    """`string(value)`."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return _double_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Fault("string() cannot read these bytes as UTF-8; compare them as bytes") from None
    if isinstance(value, Duration):
        return duration_text(value)
    if isinstance(value, Timestamp):
        return timestamp_text(value)
    if type(value) is int or type(value) is Uint:
        return str(int(value))
    raise mismatch("string", value)


def _double_text(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value).removesuffix(".0")


def to_bool(_: Frame, value: object) -> object:
    """`bool(value)`."""
    if type(value) is bool:
        return value
    if type(value) is not str:
        raise mismatch("bool", value)
    if value not in _TRUE_TEXTS + _FALSE_TEXTS:
        raise unreadable("bool", value, "'true'")
    return value in _TRUE_TEXTS


def to_bytes(frame: Frame, value: object) -> object:
    """`bytes(value)`: the text in UTF-8."""
    if type(value) is bytes:
        return value
    if type(value) is not str:
        raise mismatch("bytes", value)
    frame.charge_text(value)
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Fault("bytes() cannot encode a text with lone surrogates; mend it where it is sent") from None
