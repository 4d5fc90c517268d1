"""Equality, order and membership.

Invariant: numbers compare by their mathematical value whatever their types; other values of different types are unequal and
have no order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final

from durable_nb.engine.cel.containers import lookup_key
from durable_nb.engine.cel.faults import Fault
from durable_nb.engine.cel.frame import Frame, Overload
from durable_nb.engine.cel.values import NUMBERS, Duration, Timestamp, type_name

_ORDERED: Final = frozenset({bool, str, bytes, Timestamp, Duration})


def equal(frame: Frame, left: object, right: object) -> bool:
    """CEL's equality: numbers by value, other different types unequal, lists and maps by their parts, NaN never."""
    kind = type(left)
    other = type(right)
    if kind in NUMBERS and other in NUMBERS:
        return left == right
    if kind is not other:
        return False
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return False
        frame.charge(len(left))
        return all(equal(frame, mine, yours) for mine, yours in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        if len(left) != len(right):
            return False
        frame.charge(len(left))
        return all(key in right and equal(frame, item, right[key]) for key, item in left.items())
    if isinstance(left, str | bytes):
        frame.charge_text(left)
    return left == right


def contains(frame: Frame, item: object, container: object) -> bool:
    """`item in container`, for a list or the keys of a map."""
    if isinstance(container, list):
        for candidate in container:
            frame.charge(1)
            if equal(frame, item, candidate):
                return True
        return False
    if isinstance(container, dict):
        key = lookup_key(frame, item)
        return key is not None and key in container
    raise Fault(f"`in` needs a list or a map on its right, not {type_name(container)}")


def _ordered(compare: Callable[..., bool], sign: str) -> Overload:
    def order(frame: Frame, left: object, right: object) -> bool:
        kind, other = type(left), type(right)
        if kind in NUMBERS and other in NUMBERS:
            return compare(left, right)
        if kind is not other or kind not in _ORDERED:
            raise Fault(f"`{sign}` cannot order {type_name(left)} and {type_name(right)}; convert one side")
        if isinstance(left, str | bytes):
            frame.charge_text(left)
        return compare(left, right)

    return order


RELATIONS: Final[dict[str, Overload]] = {
    "relation_eq": equal,
    "relation_ne": lambda frame, left, right: not equal(frame, left, right),
    "relation_in": contains,
    "relation_lt": _ordered(operator.lt, "<"),
    "relation_le": _ordered(operator.le, "<="),
    "relation_gt": _ordered(operator.gt, ">"),
    "relation_ge": _ordered(operator.ge, ">="),
}
"""By the grammar's names."""
