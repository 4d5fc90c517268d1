"""Lists and maps: what is looked up in them.

Invariant: two keys are one in the Python dict exactly if CEL calls them equal. So 1, 1u and 1.0 find the same entry, and
true, which Python takes for 1, is kept as a `BoolKey`.
"""

from __future__ import annotations

from typing import Final

from durable_nb.engine.cel.faults import Fault, shorten
from durable_nb.engine.cel.frame import Frame
from durable_nb.engine.cel.values import NUMBERS, type_name


class BoolKey:
    """true or false as a key of a map."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


_BOOL_KEYS: Final = {True: BoolKey(True), False: BoolKey(False)}


def lookup_key(frame: Frame, value: object) -> object:
    """What to look up in a map for this value, or None if no map has such a key."""
    if type(value) is str:
        frame.charge_text(value)
        return value
    if type(value) is bool:
        return _BOOL_KEYS[value]
    return value if type(value) in NUMBERS else None


def key_values(container: dict[object, object]) -> list[object]:
    """The keys of a map as CEL values."""
    return [key.value if type(key) is BoolKey else key for key in container]


def key_text(key: object) -> str:
    """A map's key as JSON has it."""
    if isinstance(key, BoolKey):
        return "true" if key.value else "false"
    return str(key)


def shown(key: object) -> str:
    """A key in a message. Only a part of a long one: a fault must cost no more than what it reports."""
    return repr(shorten(key)) if isinstance(key, str) else key_text(key)


def index(frame: Frame, container: object, key: object) -> object:
    """`container[key]`."""
    if isinstance(container, dict):
        return _entry(frame, container, key)
    if isinstance(container, list):
        return _item(container, key)
    raise Fault(f"{type_name(container)} has no [...]; index a list or a map")


def _entry(frame: Frame, container: dict[object, object], key: object) -> object:
    found = lookup_key(frame, key)
    if found is None:
        raise Fault(f"a map has no keys of the type {type_name(key)}; use a string")
    try:
        return container[found]
    except KeyError:
        raise Fault(f"there is no key {shown(found)}; test with `in` first") from None


def _item(container: list[object], key: object) -> object:
    # `key // 1` is NaN for what is not finite, and NaN differs from everything.
    if not isinstance(key, int | float) or type(key) not in NUMBERS or key != key // 1:
        raise Fault(f"a list is not indexed by the {type_name(key)} {shown(key)}; use a whole number")
    if not 0 <= key < len(container):
        raise Fault(f"the index {int(key)} is out of range; the list has {len(container)} items, test size() first")
    return container[int(key)]
