"""Values made ready for JSON, before pydantic writes them: bytes set apart, and sets in an order of their own.

Invariant: equal values give equal JSON in every process. A set is iterated in the order of its elements' hashes, which are others
after a restart; a fingerprint of it would then differ, and a run diverge that asks what it asked before.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_json

from durable_nb.tasks.artifacts import Bytes

SCALARS = frozenset({str, int, float, bool, type(None)})


class OrderedSet(set[Any]):
    """A set that is iterated in the order of its elements' JSON."""

    def __iter__(self) -> Iterator[Any]:
        return iter(in_order(super().__iter__()))


class OrderedFrozenSet(frozenset[Any]):
    """A frozen set that is iterated in the order of its elements' JSON."""

    def __iter__(self) -> Iterator[Any]:
        return iter(in_order(super().__iter__()))


def in_order(items: Iterator[Any]) -> list[Any]:
    """Sort the elements of a set by their JSON."""
    return sorted(items, key=lambda item: to_json(item, fallback=lambda other: getattr(other, "body", b"").hex()))


def plain(value: Any) -> Any:
    """Give a value for JSON: its bytes as `Bytes`, its sets as sorted lists.

    The fields of models and dataclasses are left to pydantic, which writes them as their types say; only their sets are ordered.

    >>> plain({"names": {"b", "a"}, "rows": [(1, {2})]})
    {'names': ['a', 'b'], 'rows': [[1, [2]]]}
    """
    kind = type(value)
    if kind in SCALARS:
        return value
    if isinstance(value, dict):
        if SCALARS.issuperset(map(type, value.values())):
            return value
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return value if SCALARS.issuperset(map(type, value)) else [plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return Bytes(value)
    if isinstance(value, set | frozenset):
        return in_order(map(plain, value))
    return ordered(value)


def ordered(value: Any) -> Any:
    """Give a value with every set in it as an ordered one; the value itself, where it holds none."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if kind is dict:
        return _changed(value, {key: ordered(item) for key, item in value.items()}, value.values())
    if kind in {list, tuple}:
        return _changed(value, kind(map(ordered, value)), value)
    if isinstance(value, frozenset):
        return OrderedFrozenSet(map(ordered, value))
    if isinstance(value, set):
        return OrderedSet(map(ordered, value))
    if isinstance(value, BaseModel):
        fields = _replaced(value.__dict__)
        extra = _replaced(value.__pydantic_extra__ or {})
        if fields or extra:
            value = value.model_copy()
            value.__dict__.update(fields)
            (value.__pydantic_extra__ or {}).update(extra)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        fields = _replaced({name: getattr(value, name) for name in names})
        if fields:
            value = copy.copy(value)
            for name, item in fields.items():
                object.__setattr__(value, name, item)
    return value


def _replaced(fields: dict[str, Any]) -> dict[str, Any]:
    """Give the fields that hold a set, with ordered ones."""
    replaced = {name: ordered(item) for name, item in fields.items()}
    return {name: item for name, item in replaced.items() if item is not fields[name]}


def _changed(value: Any, new: Any, items: Any) -> Any:
    """Give `new` if one of its items is not the very one that `value` has."""
    fresh = new.values() if isinstance(new, dict) else new
    return value if all(ours is theirs for ours, theirs in zip(items, fresh, strict=True)) else new


def holds_secret(value: Any) -> bool:
    """Whether somewhere in a value is one that pydantic would write as asterisks."""
    todo, seen = [value], set[int]()
    while todo:
        item = todo.pop()
        if isinstance(item, SecretStr | SecretBytes):
            return True
        if type(item) in SCALARS or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, list | tuple | set | frozenset | deque):
            todo += item
        else:
            todo += getattr(item, "__dict__", {}).values()
    return False
