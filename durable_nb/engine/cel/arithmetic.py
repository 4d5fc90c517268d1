"""Arithmetic, and the two operators of one operand.

Invariant: a result is of its type's range or it is a fault; types are never mixed, except a timestamp with a duration.
"""

from __future__ import annotations

import math
from typing import AnyStr, Final

from durable_nb.engine.cel.faults import Fault
from durable_nb.engine.cel.frame import CHARS_A_STEP, Frame, Overload
from durable_nb.engine.cel.values import (
    Duration,
    Timestamp,
    Uint,
    checked_duration,
    checked_int,
    checked_timestamp,
    checked_uint,
    type_name,
)

_ITEMS_A_STEP: Final = 8


def quotient(left: int, right: int) -> int:
    """Division that rounds towards zero, unlike Python's."""
    magnitude = abs(left) // abs(_divisor(right))
    return magnitude if (left < 0) == (right < 0) else -magnitude


def remainder(left: int, right: int) -> int:
    """What `quotient` leaves, with the sign of `left`. A fault where the quotient is none of int64, as CEL says."""
    return left - right * checked_int(quotient(left, right))


def _divisor(value: int) -> int:
    if value == 0:
        raise Fault("division by zero; test the divisor first")
    return value


def _divide_doubles(left: float, right: float) -> float:
    """IEEE 754's division, which knows no error."""
    if right:
        return left / right
    if left == 0 or math.isnan(left) or math.isnan(right):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _join(frame: Frame, left: AnyStr, right: AnyStr) -> AnyStr:
    frame.charge((len(left) + len(right)) // CHARS_A_STEP)
    return left + right


def _join_lists(frame: Frame, left: list[object], right: list[object]) -> list[object]:
    frame.charge((len(left) + len(right)) // _ITEMS_A_STEP)
    return left + right


ARITHMETIC: Final[dict[str, dict[tuple[type, type], Overload]]] = {
    "+": {
        (int, int): lambda _, a, b: checked_int(a + b),
        (Uint, Uint): lambda _, a, b: checked_uint(int(a) + int(b)),
        (float, float): lambda _, a, b: a + b,
        (str, str): _join,
        (bytes, bytes): _join,
        (list, list): _join_lists,
        (Timestamp, Duration): lambda _, a, b: checked_timestamp(int(a) + int(b)),
        (Duration, Timestamp): lambda _, a, b: checked_timestamp(int(a) + int(b)),
        (Duration, Duration): lambda _, a, b: checked_duration(int(a) + int(b)),
    },
    "-": {
        (int, int): lambda _, a, b: checked_int(a - b),
        (Uint, Uint): lambda _, a, b: checked_uint(int(a) - int(b)),
        (float, float): lambda _, a, b: a - b,
        (Timestamp, Timestamp): lambda _, a, b: checked_duration(int(a) - int(b)),
        (Timestamp, Duration): lambda _, a, b: checked_timestamp(int(a) - int(b)),
        (Duration, Duration): lambda _, a, b: checked_duration(int(a) - int(b)),
    },
    "*": {
        (int, int): lambda _, a, b: checked_int(a * b),
        (Uint, Uint): lambda _, a, b: checked_uint(int(a) * int(b)),
        (float, float): lambda _, a, b: a * b,
    },
    "/": {
        (int, int): lambda _, a, b: checked_int(quotient(a, b)),
        (Uint, Uint): lambda _, a, b: checked_uint(quotient(int(a), int(b))),
        (float, float): lambda _, a, b: _divide_doubles(a, b),
    },
    "%": {
        (int, int): lambda _, a, b: checked_int(remainder(a, b)),
        (Uint, Uint): lambda _, a, b: checked_uint(int(a) % _divisor(int(b))),
    },
}
"""By the sign and the types of both operands."""


def no_overload(sign: str, left: object, right: object) -> Fault:
    """Make the fault for two types that `ARITHMETIC` does not have."""
    advice = "use double(...) on the int" if {type(left), type(right)} == {int, float} else "convert one side"
    return Fault(f"CEL has no {type_name(left)} {sign} {type_name(right)}; {advice}")


def negate(_: Frame, value: object) -> object:
    """`-value`."""
    if type(value) is int:
        return checked_int(-value)
    if type(value) is float:
        return -value
    raise Fault(f"CEL has no -{type_name(value)}; negate an int or a double")


def invert(_: Frame, value: object) -> object:
    """`!value`."""
    if value is True or value is False:
        return not value
    raise Fault(f"CEL has no !{type_name(value)}; compare it to get a bool")
