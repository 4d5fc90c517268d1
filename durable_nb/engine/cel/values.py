"""CEL's types as Python's, their names and their ranges.

Invariant: `type(value)` alone tells a CEL type. What Python lacks is a subclass of int or str, which hashes and compares as
its base does, so code that must tell them apart asks for the exact type, not `isinstance`.
"""

from __future__ import annotations

from typing import Final

from durable_nb.engine.cel.faults import Fault, shorten


class Uint(int):
    """An unsigned 64-bit integer."""


class Timestamp(int):
    """Nanoseconds since 1970-01-01T00:00:00Z."""


class Duration(int):
    """A number of nanoseconds."""


class Type(str):
    """A type as a value: its CEL name."""

    __slots__ = ()


TYPE_NAMES: Final[dict[type, str]] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    Type: "type",
}
TYPES: Final = {name: Type(name) for name in TYPE_NAMES.values()}
NUMBERS: Final = frozenset({int, Uint, float})

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1
NANOS: Final = 1_000_000_000
_TIMESTAMP_MIN: Final = -62_135_596_800 * NANOS
_TIMESTAMP_MAX: Final = 253_402_300_800 * NANOS - 1


def type_name(value: object) -> str:
    """The CEL name of a value's type, for messages."""
    return TYPE_NAMES.get(type(value), type(value).__name__)


def type_of(value: object) -> Type:
    """CEL's `type(value)`."""
    return TYPES[TYPE_NAMES[type(value)]]


def checked_int(value: int) -> int:
    """The value, if an int holds it."""
    if not INT_MIN <= value <= INT_MAX:
        raise Fault("the result is out of the range of int (64 bits); use double() if it need not be exact")
    return value


def checked_uint(value: int) -> Uint:
    """The value as a uint, if one holds it."""
    if not 0 <= value <= UINT_MAX:
        raise Fault("the result is out of the range of uint (0 to 64 bits); use int() for what may be negative")
    return Uint(value)


def checked_timestamp(value: int) -> Timestamp:
    """That many nanoseconds since 1970 as a timestamp, if it is in CEL's range."""
    if not _TIMESTAMP_MIN <= value <= _TIMESTAMP_MAX:
        raise Fault("the timestamp is out of range; keep it within the years 0001 to 9999")
    return Timestamp(value)


def checked_duration(value: int) -> Duration:
    """That many nanoseconds as a duration, if int64 holds them."""
    if not INT_MIN <= value <= INT_MAX:
        raise Fault("the duration is out of range; keep it within 292 years")
    return Duration(value)


def mismatch(function: str, *values: object) -> Fault:
    """Make the fault for a function that does not take these types."""
    return Fault(f"{function}() does not take {', '.join(map(type_name, values))}; convert the value first")


def unreadable(function: str, text: str, example: str) -> Fault:
    """Make the fault for a text that a function cannot read."""
    return Fault(f"{function}() cannot read {shorten(text)!r}; write it like {example}")
