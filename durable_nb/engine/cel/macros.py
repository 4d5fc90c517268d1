"""Macros as closures: all, exists, exists_one, map, filter.

Invariant: every item a macro visits is charged the size of the macro's body, so nested macros use up the budget however they
are nested; what is not inside a macro is visited once and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from durable_nb.engine.cel.closures import not_bool
from durable_nb.engine.cel.containers import key_values
from durable_nb.engine.cel.faults import Fault, Place
from durable_nb.engine.cel.frame import Eval, Frame
from durable_nb.engine.cel.values import type_name

MACROS: Final = {"all": (2,), "exists": (2,), "exists_one": (2,), "map": (2, 3), "filter": (2,)}
"""How many arguments each takes, its variable counted."""

_KEYS_A_STEP: Final = 8


class Loop(NamedTuple):
    """What a macro goes over. `cost` is the number of nodes in its body: the steps that each item takes."""

    target: Eval
    slot: int
    cost: int
    name: str
    place: Place

    def items(self, frame: Frame) -> list[object]:
        """A list's items or a map's keys."""
        value = self.target(frame)
        if isinstance(value, list):
            return value
        if isinstance(value, dict):
            frame.charge(len(value) // _KEYS_A_STEP)
            return key_values(value)
        raise Fault(f"{self.name}() goes over a list or a map, not {type_name(value)}", self.place)


def make_macro(loop: Loop, bodies: list[Eval]) -> Eval:
    """The macro of the loop's name; `bodies` are its arguments behind the variable."""
    if loop.name in ("all", "exists"):
        return _quantifier(loop, bodies[0], loop.name == "exists")
    if loop.name == "map":
        return _selected(loop, bodies[0] if len(bodies) == 2 else None, bodies[-1])
    selected = _selected(loop, bodies[0], None)
    if loop.name == "exists_one":
        return lambda frame: len(selected(frame)) == 1
    return selected


def _quantifier(loop: Loop, body: Eval, deciding: bool) -> Eval:
    """`exists` (deciding: true) and `all` (deciding: false), with `||`'s and `&&`'s way of absorbing errors."""

    def node(frame: Frame) -> object:
        first_fault: Fault | None = None
        slots = frame.slots
        for item in loop.items(frame):
            frame.charge(loop.cost)
            slots[loop.slot] = item
            try:
                value = body(frame)
            except Fault as fault:
                first_fault = first_fault or fault.with_traceback(None)
                continue
            if value is deciding:
                return deciding
            if type(value) is not bool:
                first_fault = first_fault or not_bool(f"{loop.name}()", value, loop.place)
        if first_fault is not None:
            raise first_fault
        return not deciding

    return node


def _selected(loop: Loop, condition: Eval | None, result: Eval | None) -> Callable[[Frame], list[object]]:
    """What `filter`, `map` and `exists_one` share: the items for which the condition holds, or what is made of them."""

    def node(frame: Frame) -> list[object]:
        slots = frame.slots
        results: list[object] = []
        for item in loop.items(frame):
            frame.charge(loop.cost)
            slots[loop.slot] = item
            if condition is not None:
                value = condition(frame)
                if type(value) is not bool:
                    raise not_bool(f"{loop.name}()", value, loop.place)
                if not value:
                    continue
            results.append(item if result is None else result(frame))
        return results

    return node
