"""Operators as closures.

Each function takes the closures of its operands and gives one of its own. Invariant: an operand's fault knows its place
already; a fault of the operation itself is given the place here.
"""

from __future__ import annotations

from durable_nb.engine.cel.arithmetic import ARITHMETIC, no_overload
from durable_nb.engine.cel.containers import lookup_key, shown
from durable_nb.engine.cel.faults import Fault, Place
from durable_nb.engine.cel.frame import Eval, Frame, Overload
from durable_nb.engine.cel.values import type_name


def constant(value: object) -> Eval:
    """A literal's value."""
    return lambda _: value


def variable(slot: int) -> Eval:
    """What is in a slot of the frame."""
    return lambda frame: frame.slots[slot]


def apply(call: Overload, operands: list[Eval], place: Place) -> Eval:
    """An operation on any number of operands."""

    def node(frame: Frame) -> object:
        try:
            return call(frame, *[operand(frame) for operand in operands])
        except Fault as fault:
            raise fault.at(place) from None

    return node


def apply_two(call: Overload, left: Eval, right: Eval, place: Place) -> Eval:
    """`apply` for the commonest case, a comparison: a list the fewer."""

    def node(frame: Frame) -> object:
        try:
            return call(frame, left(frame), right(frame))
        except Fault as fault:
            raise fault.at(place) from None

    return node


def calculate(first: Eval, rest: list[tuple[str, Eval, Place]]) -> Eval:
    """A chain of + - or of * / %, from left to right. A loop, so that long chains do not nest."""

    def node(frame: Frame) -> object:
        result = first(frame)
        for sign, operand, place in rest:
            value = operand(frame)
            overload = ARITHMETIC[sign].get((type(result), type(value)))
            if overload is None:
                raise no_overload(sign, result, value).at(place)
            try:
                result = overload(frame, result, value)
            except Fault as fault:
                raise fault.at(place) from None
        return result

    return node


def not_bool(what: str, value: object, place: Place) -> Fault:
    """Make the fault for an operand that must be true or false."""
    return Fault(f"{what} needs a bool, not {type_name(value)}; compare it to get one", place)


def logic(operands: list[tuple[Eval, Place]], deciding: bool) -> Eval:
    """`||` (deciding: true) or `&&` (deciding: false): one deciding operand is enough, whatever errors the others give."""
    sign = "||" if deciding else "&&"

    def node(frame: Frame) -> object:
        first_fault: Fault | None = None
        for operand, place in operands:
            try:
                value = operand(frame)
            except Fault as fault:
                first_fault = first_fault or fault.with_traceback(None)
                continue
            if value is deciding:
                return deciding
            if type(value) is not bool:
                first_fault = first_fault or not_bool(sign, value, place)
        if first_fault is not None:
            raise first_fault
        return not deciding

    return node


def choose(condition: Eval, then: Eval, otherwise: Eval, place: Place) -> Eval:
    """`condition ? then : otherwise`."""

    def node(frame: Frame) -> object:
        value = condition(frame)
        if type(value) is not bool:
            raise not_bool("?:", value, place)
        return then(frame) if value else otherwise(frame)

    return node


def select(operand: Eval, name: str, place: Place) -> Eval:
    """`operand.name`."""
    field = shown(name)

    def node(frame: Frame) -> object:
        value = operand(frame)
        if type(value) is dict:
            try:
                return value[name]
            except KeyError:
                raise Fault(f"there is no field {field}; guard it with has(...)", place) from None
        raise Fault(f"{type_name(value)} has no fields, so no {field}; test its type() first", place)

    return node


def has(operand: Eval, name: str, place: Place) -> Eval:
    """`has(operand.name)`."""
    field = shown(name)

    def node(frame: Frame) -> object:
        value = operand(frame)
        if type(value) is dict:
            return name in value
        raise Fault(f"{type_name(value)} has no fields, so has() cannot tell of {field}; test its type() first", place)

    return node


def make_list(items: list[Eval]) -> Eval:
    """`[item, ...]`."""
    return lambda frame: [item(frame) for item in items]


def make_map(entries: list[tuple[Eval, Eval]], place: Place) -> Eval:
    """`{key: value, ...}`."""

    def node(frame: Frame) -> object:
        result: dict[object, object] = {}
        for key_of, value_of in entries:
            value = key_of(frame)
            key = lookup_key(frame, value)
            if key is None or type(key) is float:
                raise Fault(f"a map's key cannot be {type_name(value)}; use a string, an int or a bool", place)
            if key in result:
                raise Fault(f"the map has the key {shown(key)} twice; remove one", place)
            result[key] = value_of(frame)
        return result

    return node
