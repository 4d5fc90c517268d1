"""The order of bindings: what a piece of code reads while being defined stands before it.

Since a decorator or a base class may call what it reads, not only the names read at definition come first but everything that
these need in turn, wherever that is possible. Among equals the order is by name, so that it is the same in every process.
"""

from __future__ import annotations

from collections.abc import Mapping

from durable_nb.definitions.names import Names
from durable_nb.definitions.records import Binding, Code, Constant, FromImport, Import, Reference

_KINDS = (Import, FromImport, Constant, Reference, Code)


def in_order(bindings: Mapping[str, tuple[Binding, Names | None]]) -> tuple[Binding, ...]:
    """Sort bindings so that they can be executed one after the other.

    Args:
        bindings: each name's binding, and for code the names that it reads.
    """
    plain = [binding for binding, _ in bindings.values() if not isinstance(binding, Code)]
    plain.sort(key=lambda binding: (_KINDS.index(type(binding)), binding.name))
    codes = {name: names for name, (binding, names) in bindings.items() if isinstance(binding, Code) and names}
    return (*plain, *(bindings[name][0] for name in _code_order(codes)))


def _code_order(codes: Mapping[str, Names]) -> list[str]:
    must = {name: (names.eager & codes.keys()) - {name} for name, names in codes.items()}
    should = {name: _reach(must[name] | (names.soft & codes.keys()), codes) - {name} for name, names in codes.items()}
    placed: list[str] = []
    left = sorted(codes)
    while left:
        done = set(placed)
        # A cycle of late reads (two helpers that call each other) leaves nothing fully ready: then what can be defined, is.
        ready = next((name for name in left if should[name] <= done), None)
        ready = ready or next((name for name in left if must[name] <= done), left[0])
        placed.append(ready)
        left.remove(ready)
    return placed


def _reach(names: set[str], codes: Mapping[str, Names]) -> set[str]:
    reached: set[str] = set()
    queue = sorted(names)
    while queue:
        name = queue.pop()
        if name not in reached:
            reached.add(name)
            queue.extend(codes[name].all & codes.keys())
    return reached
